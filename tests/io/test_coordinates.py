import numpy as np
import pytest
from slide import make_slide

from metaniche.errors import InputError
from metaniche.io.coordinates import (
    check_coordinates,
    nearest_distances,
    positions_um,
    resolve_um_per_unit,
    unit_suspicions,
)


def test_units_come_from_the_config_or_the_sample():
    slide = make_slide()
    assert resolve_um_per_unit(slide, 0.5, where="s") == 0.5
    slide.uns["metaniche"] = {"um_per_unit": np.float64(0.377)}
    assert resolve_um_per_unit(slide, None, where="s") == 0.377
    assert resolve_um_per_unit(slide, 0.3771, where="s") == 0.3771
    with pytest.raises(InputError, match=r"s: expected um_per_unit.*Give it here: 1\.0 for micrometres"):
        resolve_um_per_unit(make_slide(), None, where="s", remedy="Give it here")
    slide.uns["metaniche"] = "not a record"
    with pytest.raises(InputError, match="found str 'not a record'"):
        resolve_um_per_unit(slide, 2, where="s")


def test_distances_against_all_pairs():
    xy = np.random.default_rng(0).normal(size=(50, 3))
    pairs = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + np.diag(np.full(50, np.inf))
    np.testing.assert_allclose(nearest_distances(xy), pairs.min(1))


@pytest.mark.parametrize("scale", [0.377, 1.0, 200.0])
def test_the_verdict_depends_on_micrometres_not_on_the_unit(scale):
    slide = make_slide(300)
    slide.obsm["spatial"] = slide.obsm["spatial"] / scale
    check_coordinates(slide, where="s", um_per_unit=scale)
    assert unit_suspicions(slide, um_per_unit=scale, feature_kind="none") == []


def test_three_dimensions_pass():
    slide = make_slide()
    slide.obsm["spatial"] = np.column_stack([slide.obsm["spatial"], np.zeros(60)])
    check_coordinates(slide, where="s", um_per_unit=1.0)


def test_few_cells_may_stand_far_apart():
    slide = make_slide(3)
    slide.obsm["spatial"] = np.array([[0, 0], [4000, 0], [0, 4000.0]])
    check_coordinates(slide, where="s", um_per_unit=1.0)


def test_a_lattice_of_whole_micrometres_is_no_suspicion():
    slide = make_slide(64)
    slide.obsm["spatial"] = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2) * 10.0
    assert unit_suspicions(slide, um_per_unit=1.0, feature_kind="counts") == []


@pytest.mark.parametrize("odd", ["text", {"l": 1}, {"l": {"scalefactors": 2}}, {"l": {"scalefactors": {}}}])
def test_an_odd_record_of_the_platform_is_ignored(odd):
    slide = make_slide()
    slide.uns["spatial"] = odd
    check_coordinates(slide, where="s", um_per_unit=1.0)


def test_visium_with_the_right_pixel_size_or_already_in_micrometres_passes():
    slide = make_slide(64)
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2)
    slide.uns["spatial"] = {"library": {"scalefactors": {"spot_diameter_fullres": 110.0}}}
    slide.obsm["spatial"] = grid * 200.0
    check_coordinates(slide, where="s", um_per_unit=0.5)
    with pytest.raises(InputError, match=r"um_per_unit near 0\.5"):
        check_coordinates(slide, where="s", um_per_unit=1.0)
    slide.obsm["spatial"] = grid * 100.0
    check_coordinates(slide, where="s", um_per_unit=1.0)


def test_a_third_coordinate_that_is_the_same_for_all_is_no_dimension():
    slide = make_slide()
    plane = positions_um(slide, 0.5)
    for height, dimensions in ((np.full(60, 7.0), 2), (np.arange(60.0), 3)):
        raised = make_slide()
        raised.obsm["spatial"] = np.column_stack([slide.obsm["spatial"], height])
        found = positions_um(raised, 0.5)
        assert found.shape == (60, dimensions)
        assert np.array_equal(found[:, :2], plane)
    assert plane.dtype == np.float32
