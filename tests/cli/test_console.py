from rich.table import Table

from metaniche.cli.console import console


def test_names_are_printed_as_they_are_written(capsys):
    names = "T cell [exhausted]", "B [/memory]", ":skull:", "pip install 'metaniche[cuda]'"
    table = Table("[head]", title="of [all]. Research use only")
    for name in names:
        table.add_row(name)
    console(width=80).print(table)
    said = capsys.readouterr().out
    assert all(name in said for name in (*names, "[head]", "of [all]"))


def test_without_a_terminal_a_table_is_as_wide_as_asked_for(capsys):
    table = Table("word")
    table.add_row("x" * 150)
    console(width=160).print(table)
    assert "x" * 150 in capsys.readouterr().out
