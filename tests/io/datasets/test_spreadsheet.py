import pandas as pd

from metaniche.io.datasets.spreadsheet import read_sheet


def test_all_is_text_and_blanks_are_missing(tmp_path):
    rows = [["Table S2", None], ["id", "code"], [1, "0I-"], [2, None]]
    pd.DataFrame(rows).to_excel(tmp_path / "a.xlsx", header=False, index=False)
    table = read_sheet(tmp_path / "a.xlsx", header=1)
    assert table.to_dict("list")["id"] == ["1", "2"]
    assert table["code"].tolist()[0] == "0I-"
    assert table["code"].isna().tolist() == [False, True]
