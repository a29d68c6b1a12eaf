import pytest
from slide import make_slide

from metaniche.errors import InputError
from metaniche.io.record import own_record


def test_a_sample_says_of_itself_what_stands_there_or_nothing():
    slide = make_slide()
    assert own_record(slide, where="s") == {}
    slide.uns["metaniche"] = {"um_per_unit": 0.5}
    copy = own_record(slide, where="s")
    copy["um_per_unit"] = 1.0
    assert slide.uns["metaniche"] == {"um_per_unit": 0.5}


@pytest.mark.parametrize("other", ["text", [1, 2], 3.0])
def test_what_is_no_record_is_not_written_over(other):
    slide = make_slide()
    slide.uns["metaniche"] = other
    with pytest.raises(
        InputError, match=r"slide\.h5ad: expected uns\['metaniche'\] to be metaniche's record.*adata\.uns\.pop"
    ):
        own_record(slide, where="slide.h5ad")
