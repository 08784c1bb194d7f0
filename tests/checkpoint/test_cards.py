"""Model cards agree with themselves: verdicts with figures, differences with values, words with tables."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks.scanner import QUIETER, SHARPER

from ctsr.checkpoint.model_lookup import BUNDLED

PAGES = Path(__file__).parents[2] / "docs" / "models"
IN_PLANE = ("ctsr-x2", "ctsr-x4")
NUMBERS = {"18": 18, "six": 6, "ten": 10, "eight": 8, "16": 16, "21": 21}
BOUND = re.compile(r"([\d.]+) ≤ ([\d.]+)")


def text_of(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def table(name: str, first: str) -> list[dict[str, str]]:
    """The rows of the table whose header line begins so, by column."""
    lines = text_of(name).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(first))
    head, rows = [cell.strip() for cell in lines[start].strip("|").split("|")], list[dict[str, str]]()
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        rows.append(dict(zip(head, (cell.strip() for cell in line.strip("|").split("|")), strict=True)))
    return rows


def real_series(name: str) -> list[dict[str, str]]:
    return table(name, "| series | kernel | noise HU |")


def exceeded(row: dict[str, str]) -> list[str]:
    """Columns whose figure lies beyond its bound."""
    found = {column: BOUND.fullmatch(cell) for column, cell in row.items()}
    return [column for column, match in found.items() if match and float(match[1]) > float(match[2])]


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_no_paragraph_stands_twice_on_a_card(name: str) -> None:
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text_of(name)) if not part.startswith("|")]
    long = [paragraph for paragraph in paragraphs if len(paragraph) > 80]
    assert len(long) == len(set(long))
    for first, second in pairwise(long):
        assert first[:60] != second[:60]


@pytest.mark.parametrize("name", IN_PLANE)
def test_a_series_is_kept_where_every_figure_keeps_its_bound(name: str) -> None:
    for row in real_series(name):
        beyond = exceeded(row)
        assert row["kept"] == (f"no: {', '.join(beyond)}" if beyond else "yes"), row["series"]


def test_what_the_cards_count_is_what_their_tables_hold() -> None:
    for name, words in (
        ("ctsr-x2", r"keep their bound of 0\.5 HU in (\w+) of the (\w+)\."),
        ("ctsr-x4", r"keep their bounds in all (?P<all>\w+); HU inside of tissue in (?P<kept>\w+):"),
    ):
        found = re.search(words, " ".join(text_of(name).replace("**", "").split()))
        assert found, name
        kept, total = (found["kept"], found["all"]) if found.re.groupindex else found.groups()
        rows = real_series(name)
        assert NUMBERS[total] == len(rows)
        assert NUMBERS[kept] == sum("bias" not in exceeded(row) for row in rows)
    assert not any(set(exceeded(row)) - {"bias"} for row in real_series("ctsr-x4"))
    assert all(float(row["noise out/in"].split()[0]) < 1 for row in real_series("ctsr-x2")), "none comes out noisier"


@pytest.mark.parametrize("name", ["ctsr-x2", "ctsr-x2-large"])
def test_the_simulated_scanner_keeps_what_its_figures_say(name: str) -> None:
    rows = table(name, "| kernel, dose | method | noise, HU |")
    bicubic = {row["kernel, dose"]: row for row in rows if row["method"] == "bicubic"}
    assert len(bicubic) == 4
    for row in rows:
        base = bicubic[row["kernel, dose"]]
        if row is base:
            continue
        ratios = [float(row[f"{figure} over bicubic"]) for figure in ("d′", "MTF50", "noise")]
        for ratio, figure in zip(ratios, ("d′", "MTF50 at +30 HU", "noise, HU"), strict=True):
            assert float(row[figure]) / float(base[figure]) == pytest.approx(ratio, abs=0.02), row
        assert row["kept"] == ("yes" if min(ratios[:2]) >= SHARPER and ratios[2] <= QUIETER else "no")
    kept = any(row["kept"] == "yes" for row in rows if row["method"].startswith("ctsr"))
    assert ("The bound is not kept in any setting" in text_of(name)) is not kept


@pytest.mark.parametrize("name", IN_PLANE)
def test_a_difference_is_that_of_the_values_above_it(name: str) -> None:
    rows = table(name, "| patient | slices | method | PSNR, dB |")
    by_key = {(row["patient"], row["method"]): row for row in rows}
    for patient in {row["patient"] for row in rows}:
        bicubic, ours, difference = (by_key[patient, method] for method in ("bicubic", "ctsr", "ctsr − bicubic"))
        for column in ("PSNR, dB", "SSIM", "LPIPS", "MAE, HU", "bias, HU"):
            digits = len(ours[column].split(".")[1])
            said = float(difference[column].split()[0])
            assert float(ours[column]) - float(bicubic[column]) == pytest.approx(said, abs=1.1 * 10**-digits), column
            low, high = map(float, re.findall(r"[+-][\d.]+", difference[column])[1:3])
            assert low <= said <= high
