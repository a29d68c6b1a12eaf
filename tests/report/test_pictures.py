from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaniche.report import pictures


def test_highlighted_models_are_the_one_asked_for_and_its_rivals(make_run):
    expected = ["relational_mil", "cellular_neighbourhoods_ridge", "clinical_logistic", "relational_mil+clinical"]
    assert pictures.highlighted(make_run()) == expected
    assert pictures.highlighted(make_run(table=lambda t: None)) is None


def test_each_kind_of_task_has_its_own_curves(make_run):
    assert len(pictures.discrimination_pictures(make_run())) == 2
    assert len(pictures.survival_pictures(make_run(survival=True))) == 1
    assert pictures.discrimination_pictures(make_run(survival=True)) == []
    assert pictures.survival_pictures(make_run()) == []
    assert pictures.calibration_pictures(make_run(survival=True, sets=None)) == []


@pytest.mark.parametrize(
    ("part", "draw"),
    [
        ("predictions", pictures.discrimination_pictures),
        ("predictions", pictures.calibration_pictures),
        ("cells", pictures.map_pictures),
        ("history", pictures.training_pictures),
    ],
)
def test_an_absent_file_gives_no_picture(make_run, part, draw):
    assert draw(make_run(**{part: None})) == []


def test_maps_are_png_with_their_rule_and_attention_beside_them(make_run):
    maps = pictures.map_pictures(make_run())
    assert [m.uri[:14] for m in maps] == ["data:image/png"] * 2
    assert "the 6 with the highest" in maps[0].caption
    assert "had not seen its patient" in maps[0].caption
    assert "not an explanation" in maps[1].caption
    assert "of each malignant cell" in maps[0].caption
    run = make_run()
    of_cells = replace(run, info={**run.info, "task": {**run.task, "level": "cell"}})
    assert pictures.map_pictures(of_cells)[0].caption.startswith(
        "Colour: the probability that the network gives each cell"
    )


def test_a_lone_panel_is_not_blown_up(make_run):
    cells = make_run().cells
    one = pictures.map_pictures(make_run(cells=cells[cells["sample_id"] == "P03_s1"]))[0]
    assert one.width < 600 < pictures.comparison_pictures(make_run())[0].width


def test_no_potential_no_map(make_run):
    cells = make_run().cells
    assert pictures.map_pictures(make_run(cells=cells.assign(metaniche_potential=np.nan))) == []
    assert len(pictures.map_pictures(make_run(cells=cells.drop(columns="metaniche_attention")))) == 1


def test_control_is_drawn_where_it_was_run(make_run):
    assert pictures.control_pictures(make_run(info={"permutation_control": None})) == []
    control = {"model": "gone", "metric": "harrell_c", "estimate": 0.5, "low": 0.4, "high": 0.6, "values": [0.5, 0.5]}
    [picture] = pictures.control_pictures(make_run(info={"permutation_control": control}))
    assert "Harrell's C" in picture.alt
    assert "2 permutations" in picture.caption


def test_no_figure_no_forest(make_run):
    assert pictures.comparison_pictures(make_run(table=lambda t: None)) == []
    assert len(pictures.comparison_pictures(make_run())) == 1


def test_bars_over_units_of_one_patient_say_that_they_take_them_as_independent(make_run):
    of_cells = make_run().predictions.assign(patient_id="P00")
    assert "independent" in pictures.calibration_pictures(make_run(predictions=of_cells))[0].caption
    assert "independent" not in pictures.calibration_pictures(make_run())[0].caption


def test_conformal_sets_are_drawn_where_they_were_written(make_run):
    assert [p.alt for p in pictures.calibration_pictures(make_run())] == [
        "Calibration curve of held-out predictions",
        "Coverage and abstention of conformal sets",
    ]
    assert len(pictures.calibration_pictures(make_run(sets=None))) == 1
    of_sites = make_run().predictions.assign(site="liver")
    assert "once for each site" in pictures.calibration_pictures(make_run(predictions=of_sites))[0].caption
    [alone] = pictures.calibration_pictures(make_run(survival=True))
    assert "middle of the follow-up" in alone.caption
    assert pictures.calibration_pictures(make_run(survival=True, sets=None)) == []


def test_the_explanation_is_drawn_where_it_was_written(make_run):
    rng = np.random.default_rng(0)
    units = [f"P{i:02d}" for i in range(8)]
    terms = pd.DataFrame(rng.normal(size=(8, 3)), index=units, columns=["seed", "soil", "signals"])
    alone = pictures.explanation_pictures(replace(make_run(), terms=terms))
    assert [p.alt for p in alone] == ["Share of each term in the risk"]
    assert "not what caused" in alone[0].caption
    pairs = pd.DataFrame({"unit_id": units * 2, "ligand": ["A"] * 8 + ["B"] * 8, "receptor": "R"})
    pairs["contribution"] = rng.normal(size=16)
    curves = pd.DataFrame(
        {
            "curve": ["deletion", "insertion"], "n_pairs": 1, "left": 0.1, "random": 0.5, "random_low": 0.3,
            "random_high": 0.7, "shuffled": 0.6,
        }
    )  # fmt: skip
    edges = curves.drop(columns="n_pairs").assign(share=0.1)
    run = replace(make_run(), terms=terms, pairs=pairs, curves=curves, edge_curves=edges)
    assert len(pictures.explanation_pictures(replace(run, edge_curves=None))) == 3
    assert "curves of edges" in pictures.explanation_pictures(run)[-1].alt
    for picture, what in zip(pictures.explanation_pictures(run)[-2:], ("pair", "tenth")):
        assert f"Without the {what} that ranks first 0.10 is left; ranked with shuffled" in picture.caption
    speaking = pairs[pairs["unit_id"].isin(units[:2])]
    assert len(pictures.explanation_pictures(replace(run, pairs=speaking))) == 4
    without_pairs = pictures.explanation_pictures(replace(run, pairs=pairs.iloc[:0], curves=pd.DataFrame()))
    assert ["edges" in p.alt for p in without_pairs] == [False, True]
    assert pictures.explanation_pictures(make_run()) == []
