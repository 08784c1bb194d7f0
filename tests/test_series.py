import re
from dataclasses import replace
from pathlib import Path

import pytest

from ctsr.errors import SeriesError
from ctsr.series import COMMANDS, POLICY, Action, Defect, DefectKind, Series, check
from tests.made.ct import write_series
from tests.made.exams import only_series

DOCS = Path(__file__).parents[1] / "docs" / "reference" / "reading.md"


def with_defect(folder: Path, kind: DefectKind) -> Series:
    return replace(only_series(write_series(folder, 2)), defects=(Defect(kind, "this is wrong"),))


def table_in_docs() -> dict[str, dict[str, str]]:
    """Defect → command → action, from the table whose first column is headed `defect`."""
    rows = [
        [cell.strip(" `") for cell in line.strip("| \n").split("|")]
        for line in DOCS.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    start = next(i for i, row in enumerate(rows) if row[0] == "defect")
    commands = rows[start][1:]
    body = rows[start + 2 : start + 2 + len(DefectKind)]
    return {row[0]: dict(zip(commands, row[1:], strict=True)) for row in body}


def test_the_documentation_shows_the_table_the_code_follows() -> None:
    told = {
        kind.value: {command: action.value for command, action in zip(COMMANDS, actions, strict=True)}
        for kind, actions in POLICY.items()
    }
    assert table_in_docs() == told


def test_every_defect_is_decided_for_every_command() -> None:
    assert set(POLICY) == set(DefectKind)
    assert all(len(actions) == len(COMMANDS) for actions in POLICY.values())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", DefectKind)
def test_each_command_refuses_warns_or_goes_on_as_the_table_says(
    tmp_path: Path, kind: DefectKind, command: str
) -> None:
    series = with_defect(tmp_path, kind)
    match POLICY[kind][COMMANDS.index(command)]:
        case Action.REFUSE:
            with pytest.raises(SeriesError, match=f"^{re.escape(str(series.path))}: this is wrong. [A-Z].*"):
                check(series, command)
        case Action.WARN:
            assert check(series, command) == [f"{series.path}: this is wrong"]
        case Action.HARMLESS:
            assert check(series, command) == []


def test_what_the_user_allows_is_a_warning(tmp_path: Path) -> None:
    assert check(with_defect(tmp_path / "a", DefectKind.GAP), "volume", allow_gaps=True)
    assert check(with_defect(tmp_path / "b", DefectKind.MISSING_RESCALE), "train", assume_hu=True)


def test_a_refusal_names_every_reason(tmp_path: Path) -> None:
    defects = (Defect(DefectKind.GAP, "a hole"), Defect(DefectKind.MISSING_RESCALE, "no rescale"))
    series = replace(only_series(write_series(tmp_path, 2)), defects=defects)
    with pytest.raises(SeriesError, match=r"a hole.*no rescale"):
        check(series, "volume")
