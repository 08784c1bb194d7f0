"""What is printed where there is no terminal: plain lines, every name as it is."""

import pytest

from ctsr.cli import console as module
from ctsr.cli.console import Console

NAME = "[bold]P1[/bold] [link=x] 5 [mm] \\[a]"


def test_results_go_to_one_stream_and_news_to_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.print("result")
    console.note("news")
    console.error("bad")
    assert capsys.readouterr() == ("result\n", "news\nerror: bad\n")


def test_brackets_in_names_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.print(NAME)
    console.note(NAME)
    console.error(NAME)
    assert capsys.readouterr() == (f"{NAME}\n", f"{NAME}\nerror: {NAME}\n")


@pytest.mark.parametrize("place", ["title", "column", "cell"])
def test_brackets_in_a_table_are_not_markup(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"title": "Exams", "column": "patient", "cell": "P2", place: NAME}
    Console().table(words["title"], [words["column"]], [[words["cell"]]])
    assert NAME in capsys.readouterr().out


def test_colons_in_names_are_not_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    for say in (console.print, console.note):
        say("a:x:b :ok: 12:30:45")
    console.table("", ["patient"], [["a:on:b"]])
    out, err = capsys.readouterr()
    assert err == "a:x:b :ok: 12:30:45\n"
    assert "a:x:b :ok: 12:30:45" in out
    assert "a:on:b" in out


def test_a_title_longer_than_its_table_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table("Synthetic exams in a/long/folder/name", ["p"], [["a"]])
    assert capsys.readouterr().out.splitlines()[0].strip() == "Synthetic exams in a/long/folder/name"


def test_a_long_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    for say in (console.print, console.note):
        say("word " * 100)
    out, err = capsys.readouterr()
    assert out == err == "word " * 100 + "\n"


def test_a_table_is_laid_out_in_columns_with_numbers_flush_right(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table("Exams", ("patient", "slices"), [("anna", "5"), ("bert", "120")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Exams"
    assert [line.rstrip() for line in lines[-2:]] == ["anna    │      5", "bert    │    120"]


def test_work_passes_through_unchanged_and_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Console().track(iter("abc"), total=3, what="Reading")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("total", "of"), [(3, "/3"), (None, "")])
def test_long_work_says_a_plain_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], total: int | None, of: str
) -> None:
    monkeypatch.setattr(module, "PLAIN_INTERVAL_S", 0.0)
    assert list(Console().track([1, 2, 3], total=total, what="Reading [P1]")) == [1, 2, 3]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"Reading [P1]: {done}{of} in 0 s" for done in (1, 2, 3)]
