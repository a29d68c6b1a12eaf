import shutil

import anndata
import pandas as pd
import pytest
from verbs import run

from metaniche.cli.predict import _jobs as planned
from metaniche.cli.predict import check_output
from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.write import write_sample


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


def test_predictions_may_be_jobs_of_a_multirun(trained, tmp_path):
    folder, _ = trained
    source = sorted((folder / "runs/tiny/held_out").glob("*.h5ad"))[0]
    outputs = ",".join(f"{tmp_path}/{name}.h5ad" for name in "ab")
    status, said = run("predict", folder, "-m", "bundle=runs/tiny/bundle", f"input={source}", f"output={outputs}")
    assert status == 0, said
    assert all((tmp_path / f"{name}.h5ad").is_file() for name in "ab")


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
    adata = anndata.read_h5ad(source)
    names = {name: f"{name} cell" for name in adata.obs["cell_type"].unique()}
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str).map(names)
    adata.write_h5ad(tmp_path / "renamed.h5ad")
    (tmp_path / "bad.csv").write_text("from,to\nx,y\n")
    (tmp_path / "good.csv").write_text("found,trained\n" + "".join(f"{new},{old}\n" for old, new in names.items()))
    known = ("predict", folder, "bundle=runs/tiny/bundle", f"input={source}", f"output={tmp_path}/known.h5ad")
    other = (*known[:3], f"input={tmp_path}/renamed.h5ad", f"output={tmp_path}/other.h5ad")
    for wrong, words in ((f"{tmp_path}/bad.csv", "a column 'found'"), (f"{tmp_path}/none.csv", "no such file")):
        status, said = run(*other, f"type_aliases={wrong}")
        assert status == 2
        assert words in said
        assert "Traceback" not in said
    status, said = run(*other)
    assert status == 2
    assert "0 % of cells with a known type" in said
    for command in (known, (*other, f"type_aliases={tmp_path}/good.csv")):
        status, said = run(*command)
        assert status == 0, said
    given = ", ".join(f"{new}: {old}" for old, new in names.items())
    status, said = run(*other[:-1], f"output={tmp_path}/typed.h5ad", f"type_aliases={{{given}}}")
    assert status == 0, said
    one, *others = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("known", "other", "typed"))
    assert one[keys.POTENTIAL].notna().any()
    for two in others:
        pd.testing.assert_series_equal(one[keys.POTENTIAL], two[keys.POTENTIAL])


def test_a_file_that_is_refused_does_not_stop_the_others_of_its_folder(trained, tmp_path):
    folder, _ = trained
    source = sorted((folder / "runs/tiny/held_out").glob("*.h5ad"))[0]
    (tmp_path / "in").mkdir()
    good = anndata.read_h5ad(source)
    for name in ("a", "b", "c"):
        sample = good.copy()
        sample.obs["sample_id"] = sample.obs["patient_id"] = name
        if name == "a":
            sample.obsm["spatial"][0] = float("nan")
        sample.write_h5ad(tmp_path / "in" / f"{name}.h5ad")
    (tmp_path / "in/d.h5ad").write_bytes((tmp_path / "in/c.h5ad").read_bytes()[:5000])  # cut off
    status, said = run("predict", folder, "bundle=runs/tiny/bundle", f"input={tmp_path}/in", f"output={tmp_path}/out")
    assert status == 2
    assert "Traceback" not in said
    assert "for the reasons above: 2" in said
    assert "'d.h5ad', 'a.h5ad'" in said
    assert set(pd.read_parquet(tmp_path / "out/units.parquet")["unit_id"]) == {"b", "c"}
    assert (tmp_path / "out/c.h5ad").exists()


def test_a_patient_with_two_files_has_one_risk(trained, tmp_path):
    """As if both samples stood in one file."""
    folder, _ = trained
    sources = sorted((folder / "runs/tiny/held_out").glob("*.h5ad"))[:2]
    (tmp_path / "in").mkdir()
    parts = [anndata.read_h5ad(path) for path in sources]
    for name, adata in zip("ac", parts):
        adata.obs["patient_id"] = "one"
        adata.obs_names = [f"{name}{i}" for i in range(adata.n_obs)]
        adata.write_h5ad(tmp_path / "in" / f"{name}.h5ad")
    bare = parts[0].copy()
    del bare.obs["patient_id"], bare.obs["sample_id"]
    bare.write_h5ad(tmp_path / "in" / "b.h5ad")
    together = anndata.concat(parts)
    together.uns = parts[0].uns
    together.write_h5ad(tmp_path / "together.h5ad")
    for source, output in (("in", "out"), ("together.h5ad", "together_out.h5ad")):
        status, said = run(
            "predict", folder, "bundle=runs/tiny/bundle", f"input={tmp_path}/{source}", f"output={tmp_path}/{output}"
        )
        assert status == 0, said
        assert said.count("one: risk") == 1
        assert "(one network: no interval)" in said
    units = pd.read_parquet(tmp_path / "out/units.parquet").set_index("unit_id")
    assert set(units.index) == {"one", "b"}
    scored = anndata.read_h5ad(tmp_path / "together_out.h5ad")
    assert units.loc["one", "risk"] == pytest.approx(scored.uns[keys.UNS]["units"]["risk"].iloc[0], abs=1e-6)
    flat = pd.concat([pd.read_parquet(tmp_path / f"out/{name}.parquet") for name in "ac"])
    assert flat[keys.ATTENTION].to_numpy() == pytest.approx(scored.obs[keys.ATTENTION].to_numpy(), abs=1e-6)
    assert list(anndata.read_h5ad(tmp_path / "out/b.h5ad").uns[keys.UNS]["units"]["unit_id"]) == ["b"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a.h5ad", "a.zarr"), "'a.h5ad', 'a.zarr'"),
        (("units.h5ad",), "'units.h5ad'"),
        (("a.h5ad", "b.h5ad"), "in one file"),
    ],
)
def test_files_that_would_write_over_each_other_are_refused(trained, tmp_path, names, words):
    folder, _ = trained
    adata = anndata.read_h5ad(sorted((folder / "runs/tiny/held_out").glob("*.h5ad"))[0])
    for name in names:
        write_sample(adata, tmp_path / name)
    with pytest.raises(InputError, match=words):
        planned(tmp_path, tmp_path / "out")


def test_a_bundle_that_is_none_is_refused_in_words(tmp_path):
    (tmp_path / "x.h5ad").touch()
    status, said = run("predict", tmp_path, f"bundle={tmp_path}", "input=x.h5ad", "output=y.h5ad")
    assert status == 2
    assert "model.json" in said
    assert "Traceback" not in said


def test_a_folder_without_samples_is_told_what_it_holds(tmp_path):
    (tmp_path / "slide.csv").touch()
    with pytest.raises(InputError, match=r"names end in \.h5ad or \.zarr, found 'slide\.csv'\. Give the folder"):
        planned(tmp_path, tmp_path / "out")


@pytest.fixture
def slide(trained, tmp_path):
    """A held-out file in a folder of its own, and what all commands on it share."""
    folder, _ = trained
    source = tmp_path / "in" / "orig.h5ad"
    source.parent.mkdir()
    shutil.copy(sorted((folder / "runs/tiny/held_out").glob("*.h5ad"))[0], source)
    return source, ("predict", folder, "bundle=runs/tiny/bundle")


@pytest.mark.parametrize("name", ["orig.h5ad", "", "../in/orig.h5ad", "link.h5ad"])
def test_an_input_is_never_written_over(tmp_path, slide, name):
    source, _ = slide
    (tmp_path / "in/link.h5ad").symlink_to(source)
    given = source if name else source.parent
    for overwrite in (False, True):
        with pytest.raises(InputError, match="an output that is not the input"):
            check_output(given, source.parent / name, not name, overwrite)


def test_an_input_of_a_folder_is_not_written_over_by_way_of_the_output_folder(tmp_path, slide):
    source, _ = slide
    out = tmp_path / "out"
    out.mkdir()
    (out / source.name).symlink_to(source)
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"outputs that are no inputs, found .*orig"):
            check_output(source.parent, out, of_folder=True, overwrite=overwrite)


def test_an_input_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="slidez: expected an input file or folder"):
        check_output(tmp_path / "slidez", tmp_path / "scored", of_folder=False, overwrite=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nodir/o.h5ad", r"expected an existing folder, found none at .*nodir\. Create it first"),
        ("out.csv", r"ending in \.h5ad or \.zarr for one input file, found '\.csv'"),
        ("isdir", r"found a folder\. Name the file: output=.*isdir/orig\.h5ad"),
        ("own.zarr", r"expected a zarr store, or nothing, found other content"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_scoring(tmp_path, slide, name, words):
    for folder in ("isdir", "own.zarr"):
        (tmp_path / folder).mkdir()
    for overwrite in (False, True):
        with pytest.raises(InputError, match=words):
            check_output(slide[0], tmp_path / name, of_folder=False, overwrite=overwrite)


def test_a_file_is_no_folder_to_write_into(tmp_path, slide):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="expected a folder to write into, found a file"):
        check_output(slide[0].parent, tmp_path / "file", of_folder=True, overwrite=True)


def test_what_is_there_is_replaced_only_when_asked(tmp_path, slide):
    source, known = slide
    before = source.read_bytes()
    command = (*known, f"input={source.parent}", f"output={tmp_path}/out")
    assert run(*command)[0] == 0
    status, said = run(*command)
    assert status == 2
    assert "3 of 3 already there" in said
    assert "overwrite=true replaces them" in said
    assert "Traceback" not in said
    status, said = run(*command, "overwrite=true")
    assert status == 0, said
    (tmp_path / "one.parquet").write_text("x")
    with pytest.raises(InputError, match=r"1 of 2 already there \('.*one\.parquet'\)"):
        check_output(source, tmp_path / "one.h5ad", of_folder=False, overwrite=False)
    check_output(source, tmp_path / "one.h5ad", of_folder=False, overwrite=True)
    assert source.read_bytes() == before


def test_an_output_is_refused_before_the_bundle_is_read(tmp_path, slide):
    status, said = run("predict", tmp_path, "bundle=none", f"input={slide[0]}", f"output={tmp_path}/nodir/o.h5ad")
    assert status == 2
    assert "expected an existing folder" in said


def test_the_line_of_a_unit_says_how_it_was_calibrated_and_what_is_doubtful(tmp_path, slide):
    source, known = slide
    adata = anndata.read_h5ad(source)
    healthy = adata[adata.obs["cell_type"] != "malignant"][:40].copy()
    healthy.write_h5ad(tmp_path / "healthy.h5ad")
    status, said = run(*known, f"input={tmp_path}/healthy.h5ad", f"output={tmp_path}/out.h5ad")
    assert status == 0, said
    (line,) = [text for text in said.splitlines() if ": risk" in text]
    assert "calibration: none: those held out in training were too few" in line
    assert "only 40 cells, fewer than 100; no malignant cell: " in line


def test_a_mistake_names_the_file_and_what_to_type(tmp_path, slide):
    source, known = slide
    adata = anndata.read_h5ad(source)
    del adata.uns["metaniche"]
    adata.write_h5ad(tmp_path / "bare.h5ad")
    status, said = run(*known, f"input={tmp_path}/bare.h5ad", f"output={tmp_path}/out.h5ad")
    assert status == 2
    assert f"{tmp_path}/bare.h5ad: expected um_per_unit" in said
    assert "on the command line: um_per_unit=0.5" in said
    assert "cohort" not in said
