import json
import os
import time
from pathlib import Path

import pytest

from ctsr.checkpoint import resolve_model
from ctsr.checkpoint.model_lookup import BUNDLED, run_time
from ctsr.errors import MissingInputError

OLD, NEW = "rrdb_x2_blurnoise_20250912-114004", "rrdb_x2_blurnoise_20251001-080000"
FOUR = "rrdb_x4_clean_20251224-180000"


def put(file: Path, written: str = "20200101-000000") -> Path:
    """An (empty) checkpoint that was written at a given time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")
    seconds = time.mktime(time.strptime(written, "%Y%m%d-%H%M%S"))
    os.utime(file, (seconds, seconds))
    return file


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with three runs and a fine-tuned model, whose files' own dates contradict the runs' names."""
    folder = tmp_path / "ESRGAN"
    put(folder / "runs" / OLD / "best.pth", "20260101-000000")
    put(folder / "runs" / OLD / "last.pth")
    put(folder / "runs" / NEW / "best.pth")
    put(folder / "runs" / FOUR / "best.pth")
    put(folder / "runs" / FOUR / "last.pth")
    put(folder / "finetune_outputs/best.pth", "20251002-000000")
    return folder


def found(reference: str | None, place: Path) -> str:
    return resolve_model(reference, search_root=place).path.relative_to(place).as_posix()


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        (f"runs/{OLD}/last.pth", f"runs/{OLD}/last.pth"),
        (f"runs\\{OLD}\\best.pth", f"runs/{OLD}/best.pth"),
        (f"runs{OLD}best.pth", f"runs/{OLD}/best.pth"),
        (f"ESRGAN\\runs\\{OLD}\\best.pth", f"runs/{OLD}/best.pth"),
        ("finetune_outputs\\best.pth", "finetune_outputs/best.pth"),
        ("finetune_outputsbest.pth", "finetune_outputs/best.pth"),
    ],
)
def test_a_file_is_itself_however_it_is_spelled(place: Path, reference: str, meant: str) -> None:
    assert found(reference, place) == meant


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        (f"runs/{OLD}", f"runs/{OLD}/best.pth"),
        (f"runs\\{OLD}\\", f"runs/{OLD}/best.pth"),
        (OLD, f"runs/{OLD}/best.pth"),
        ("finetune_outputs", "finetune_outputs/best.pth"),
    ],
)
def test_a_run_is_its_best_checkpoint(place: Path, reference: str, meant: str) -> None:
    assert found(reference, place) == meant


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("rrdb_x2_blurnoise_best.pth", f"runs/{NEW}/best.pth"),
        ("rrdb_x2_blurnoise_best", f"runs/{NEW}/best.pth"),
        ("rrdb_x2_blurnoise", f"runs/{NEW}/best.pth"),
        ("runs/rrdb_x2_blurnoise_best.pth", f"runs/{NEW}/best.pth"),
        ("ESRGAN\\runs\\rrdb_x2_blurnoise_best.pth", f"runs/{NEW}/best.pth"),
        ("rrdb_x2_blurnoise_last.pth", f"runs/{OLD}/last.pth"),
        ("rrdb_x4_clean_best.pth", f"runs/{FOUR}/best.pth"),
        ("rrdb_ct_best.pth", f"runs/{FOUR}/best.pth"),
        ("rrdb_ct_last.pth", f"runs/{FOUR}/last.pth"),
        (None, f"runs/{FOUR}/best.pth"),
    ],
)
def test_an_experiments_name_is_its_newest_run_by_the_time_in_the_folders_name(
    place: Path, reference: str | None, meant: str
) -> None:
    assert found(reference, place) == meant


def test_a_run_without_a_time_in_its_name_is_as_old_as_its_checkpoint(place: Path) -> None:
    put(place / "finetune_outputs/best.pth", "20260202-000000")
    assert found(None, place) == "finetune_outputs/best.pth"
    assert found("rrdb_ct_best.pth", place) == "finetune_outputs/best.pth"
    assert found("rrdb_x2_blurnoise_best.pth", place) == f"runs/{NEW}/best.pth"


def test_the_oldest_name_never_means_a_fine_tuned_run(place: Path) -> None:
    put(place / "finetune_outputs/best.pth", "20270202-000000")
    (place / "finetune_outputs/finetune_x2_blurnoise.json").write_text("{}")
    assert found("rrdb_ct_best.pth", place) == f"runs/{FOUR}/best.pth"
    assert found(None, place) == "finetune_outputs/best.pth"


@pytest.mark.parametrize("best", [0.009, 0.011])
@pytest.mark.parametrize("reference", [None, "rrdb_ct_best.pth", "rrdb_x4_clean"])
def test_a_newest_run_that_is_no_better_than_bicubic_is_warned_about(
    place: Path, reference: str | None, best: float
) -> None:
    (place / "runs" / FOUR / "validation.json").write_text(json.dumps({"best_l1": best, "bicubic_l1": 0.01}))
    resolved = resolve_model(reference, search_root=place)
    assert ("best.pth is no better than bicubic" in resolved.note) == (best > 0.01)
    assert resolve_model(f"runs/{FOUR}", search_root=place).note.count("\n") == 0, "named, it is meant"


@pytest.mark.parametrize("text", ["", "[]", '{"best_l1": "x", "bicubic_l1": 1}', "{}"])
def test_a_damaged_comparison_is_passed_over(place: Path, text: str) -> None:
    (place / "runs" / FOUR / "validation.json").write_text(text)
    assert resolve_model(None, search_root=place).note.count("\n") == 0


def test_a_run_in_a_folder_of_any_name_is_known_by_its_experiment_file(place: Path) -> None:
    (place / "finetune_outputs/rrdb_x2_blurnoise.json").write_text("{}")
    assert found("rrdb_x2_blurnoise_best.pth", place) == "finetune_outputs/best.pth"


def test_an_earlier_checkpoint_under_its_full_name_is_found_in_any_run(place: Path) -> None:
    put(place / "runs/2024/rrdb_x2_clean_best.pth")
    assert found("rrdb_x2_clean_best.pth", place) == "runs/2024/rrdb_x2_clean_best.pth"


def test_a_file_of_that_name_wins_over_the_runs(place: Path) -> None:
    put(place / "rrdb_ct_best.pth")
    assert found("rrdb_ct_best.pth", place) == "rrdb_ct_best.pth"


def test_a_run_that_has_no_best_checkpoint_yet_is_passed_over(place: Path) -> None:
    put(place / "runs/rrdb_x2_blurnoise_20270101-000000/last.pth")
    assert found("rrdb_x2_blurnoise_best.pth", place) == f"runs/{NEW}/best.pth"


@pytest.mark.parametrize("reference", ["rrdb_x2_blurnoise_best.pth", "rrdb_ct_best.pth", None, OLD, "best.pth"])
def test_a_choice_is_said(place: Path, reference: str | None) -> None:
    resolved = resolve_model(reference, search_root=place)
    assert str(resolved.path) in resolved.note
    assert "\n" not in resolved.note


def test_a_file_named_plainly_needs_no_note(place: Path) -> None:
    assert resolve_model(f"runs/{OLD}/best.pth", search_root=place).note == ""


def test_other_run_folders_can_be_searched(place: Path) -> None:
    put(place / "elsewhere/rrdb_x2_blur_20250101-000000/best.pth")
    resolved = resolve_model("rrdb_x2_blur", runs=[Path("elsewhere")], search_root=place)
    assert resolved.path == place / "elsewhere/rrdb_x2_blur_20250101-000000/best.pth"


@pytest.mark.parametrize("reference", ["rrdb_x2_clean_best.pth", "runs\\y\\best.pth", "nonsense.pth", "esrgan"])
def test_what_is_not_found_is_an_error_that_lists_where_it_was_looked_for(place: Path, reference: str) -> None:
    with pytest.raises(MissingInputError) as error:
        resolve_model(reference, search_root=place)
    message = str(error.value)
    assert reference in message
    assert str(place / "runs") in message
    assert str(place / "finetune_outputs") in message
    assert str(place / "runs" / NEW / "best.pth") in message, "what could have been named is listed"


@pytest.mark.parametrize(("only_l1", "kind"), [(False, "run"), (True, "L1 run")])
def test_without_any_run_the_bundled_model_is_meant_and_that_is_said(tmp_path: Path, only_l1: bool, kind: str) -> None:
    resolved = resolve_model(None, search_root=tmp_path, only_l1=only_l1, parameter="this")
    first = next(iter(BUNDLED.values()))
    assert resolved.path == first.file
    assert resolved.note.startswith(f"model: {first.name}, which comes with ctsr, as there is no {kind} in {tmp_path}")
    assert resolved.note.endswith("(choose with `this`)")


@pytest.mark.parametrize("scale", [2, 4])
def test_without_any_run_the_bundled_model_is_of_the_scale_that_is_asked_for(tmp_path: Path, scale: int) -> None:
    resolved = resolve_model(None, search_root=tmp_path, scale=scale)
    assert resolved.path == BUNDLED[f"ctsr-x{scale}"].file


def test_without_any_run_a_scale_that_no_bundled_model_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no model for ×3 comes with ctsr; name one with `model_path`"):
        resolve_model(None, search_root=tmp_path, scale=3)


def test_a_name_that_no_model_has_is_answered_with_all_that_come_along(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        resolve_model("nope", search_root=tmp_path)
    assert str(caught.value).endswith("with ctsr come ctsr-x2, ctsr-x2-large, ctsr-x4, ctsr-z")


def test_a_run_folder_with_only_its_last_checkpoint_says_so(place: Path) -> None:
    put(place / "runs/young/last.pth")
    with pytest.raises(MissingInputError, match=r"holds no best\.pth; it has last\.pth"):
        resolve_model("runs/young", search_root=place)


@pytest.mark.skipif(os.sep == "\\", reason="such a path is at home there")
def test_an_absolute_path_of_a_windows_machine_is_refused(place: Path) -> None:
    with pytest.raises(MissingInputError, match="absolute Windows path"):
        resolve_model("C:\\thesis\\ESRGAN\\rrdb_ct_best.pth", search_root=place)


def test_a_run_tells_its_time_by_its_name() -> None:
    started = time.strptime(f"{NEW[-15:]}", "%Y%m%d-%H%M%S")
    assert run_time(Path("runs") / NEW) == time.mktime(started)
    assert run_time(Path("runs/rrdb_x2_clean_20251399-000000")) is None
    assert run_time(Path("finetune_outputs")) is None
