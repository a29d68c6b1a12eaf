from metaniche.io import keys


def test_what_is_written_stands_under_one_prefix():
    written = (keys.POTENTIAL, keys.ATTENTION, keys.UNS)
    assert all(key.startswith(keys.PREFIX) for key in written)


def test_no_key_is_spelt_twice():
    names = {name: value for name, value in vars(keys).items() if name.isupper()}
    names.pop("UNS")  # the namespace in uns is the prefix itself
    assert len(set(names.values())) == len(names)
