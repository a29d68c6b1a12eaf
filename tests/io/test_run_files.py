from metaniche.io import run_files


def test_no_two_files_of_a_run_share_a_name():
    names = [v for k, v in vars(run_files).items() if k.isupper()]
    assert len(names) == len(set(names)) > 5
