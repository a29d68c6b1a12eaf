import numpy as np
import pandas as pd
import pytest
from slide import make_slide

from metaniche.errors import ConfigError, InputError
from metaniche.io.guards import check_sample, named_categories, require_column, suspicions


def test_units_may_stand_in_the_sample():
    slide = make_slide()
    slide.uns["metaniche"] = {"um_per_unit": 1.0}
    assert check_sample(slide, where="s", um_per_unit=None, feature_kind="counts") is slide


def test_cell_types_are_asked_for_only_where_named():
    slide = make_slide()
    del slide.obs["cell_type"]
    check_sample(slide, where="s", um_per_unit=1.0, feature_kind="counts")
    with pytest.raises(InputError, match="cell_type"):
        check_sample(slide, where="s", um_per_unit=1.0, feature_kind="counts", cell_type_key="cell_type")


@pytest.mark.parametrize("values", [[True, False], [1, 0], [1.0, 0.0], np.array([True, False])])
def test_malignancy_in_any_spelling_of_yes_and_no(values):
    slide = make_slide()
    slide.obs["is_malignant"] = list(values) * 30
    check_sample(slide, where="s", um_per_unit=1.0, feature_kind="counts")


def test_unknown_feature_kind_is_a_matter_of_config():
    with pytest.raises(ConfigError, match="feature_kind"):
        check_sample(make_slide(), where="s", um_per_unit=1.0, feature_kind="tpm")


def test_x_is_not_looked_at_without_features():
    slide = make_slide()
    slide.X.data[:] = np.nan
    check_sample(slide, where="s", um_per_unit=1.0, feature_kind="none")


def test_suspicions_are_sentences():
    slide = make_slide(kind="intensity")
    assert suspicions(slide, um_per_unit=1.0, feature_kind="intensity") == []
    slide.X = slide.X - 10
    slide.obsm["spatial"] = np.rint(slide.obsm["spatial"])
    found = suspicions(slide, um_per_unit=1.0, feature_kind="intensity")
    assert len(found) == 2
    assert all(text.endswith(".") for text in found)


def test_an_absent_column_is_named_with_its_nearest():
    with pytest.raises(InputError, match=r"obs\['patient'\].*Did you mean 'patient_id'"):
        require_column(make_slide().obs, "patient", "s")


def test_words_for_a_missing_name_are_missing():
    found = named_categories(pd.Series(["T cell", "", "nan", " NA ", None, "None", "none", "Unknown"]))
    assert list(found.cat.categories) == ["T cell", "Unknown", "none"]
    assert found.isna().tolist() == [False, True, True, True, True, True, False, False]
