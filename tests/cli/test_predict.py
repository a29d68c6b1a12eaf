import anndata
import pandas as pd
from verbs import run

from metaniche.io import keys


def test_held_out_samples_are_scored_into_anndata_and_a_flat_table(trained, tmp_path):
    folder, _ = trained
    source = sorted((folder / "runs/tiny/held_out").glob("*.h5ad"))
    status, said = run(
        "predict", folder, "bundle=runs/tiny/bundle", "input=runs/tiny/held_out", f"output={tmp_path}/out"
    )
    assert status == 0, said
    assert "panel coverage 100 %" in said
    scored = anndata.read_h5ad(tmp_path / "out" / source[0].name)
    flat = pd.read_parquet(tmp_path / "out" / f"{source[0].stem}.parquet")
    assert scored.uns[keys.UNS]["notice"] == keys.RESEARCH_USE_ONLY
    assert flat[keys.POTENTIAL].notna().sum() == (scored.obs["cell_type"] == "malignant").sum()


def test_genes_in_another_order_give_the_same_values(trained, tmp_path):
    folder, _ = trained
    source = sorted((folder / "runs/tiny/held_out").glob("*.h5ad"))[0]
    adata = anndata.read_h5ad(source)
    adata[:, ::-1].copy().write_h5ad(tmp_path / "shuffled.h5ad")
    for name, path in (("one", source), ("other", tmp_path / "shuffled.h5ad")):
        status, said = run(
            "predict", folder, "bundle=runs/tiny/bundle", f"input={path}", f"output={tmp_path}/{name}.h5ad"
        )
        assert status == 0, said
    one, other = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "other"))
    pd.testing.assert_frame_equal(one, other)


def test_cell_types_under_other_names_are_named_by_a_table(trained, tmp_path):
    folder, _ = trained
    source = sorted((folder / "runs/tiny/held_out").glob("*.h5ad"))[0]
    (tmp_path / "bad.csv").write_text("from,to\nx,y\n")
    (tmp_path / "good.csv").write_text("found,trained\ntumour,malignant\n")
    command = ("predict", folder, "bundle=runs/tiny/bundle", f"input={source}", f"output={tmp_path}/out.h5ad")
    status, said = run(*command, f"type_aliases={tmp_path}/bad.csv")
    assert status == 2
    assert "'found' and 'trained'" in said
    status, said = run(*command, f"type_aliases={tmp_path}/good.csv")
    assert status == 0, said


def test_a_bundle_that_is_none_is_refused_in_words(tmp_path):
    status, said = run("predict", tmp_path, f"bundle={tmp_path}", "input=x.h5ad", "output=y.h5ad")
    assert status == 2
    assert "model.json" in said
    assert "Traceback" not in said
