from metaniche.errors import InputError
from metaniche.io.wording import listed, nearest, reason, refusal


def test_an_error_says_where_what_and_how():
    error = refusal("a.h5ad", expected="X", found="Y", fix="Do Z.")
    assert isinstance(error, InputError)
    assert str(error) == "a.h5ad: expected X, found Y. Do Z."


def test_long_lists_are_cut_and_counted():
    assert listed([]) == "none"
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed(range(7), 2) == "'0', '1' and 5 more"


def test_a_foreign_error_keeps_its_notes():
    error = ValueError("bad codes")
    assert reason(error) == "ValueError: bad codes"
    error.add_note("reading key 'cell_type'")
    assert reason(error) == "ValueError: bad codes (reading key 'cell_type')"


def test_nearest_name_only_when_near():
    assert nearest("cell_typ", ["cell_type", "x"]) == "Did you mean 'cell_type'? "
    assert nearest("zzz", ["cell_type"]) == ""
