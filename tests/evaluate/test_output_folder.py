import re
from pathlib import Path

import pytest

from ctsr.evaluate.output_folder import LOCK_FILE, LockFile, output_folder

STEM = "test__best__globalHU_-1000_2000_on_test_set"


def interrupted_run(output: Path, fingerprint: str = "abc") -> Path:
    with pytest.raises(KeyboardInterrupt):
        begin_and_stop(output, fingerprint)
    (path,) = output.iterdir()
    return path


def begin_and_stop(output: Path, fingerprint: str) -> None:
    with output_folder(output, STEM, fingerprint) as folder:
        folder.metrics_csv.write_text("", encoding="utf-8")
        raise KeyboardInterrupt


def test_a_folder_is_named_by_what_it_holds_and_when_it_was_begun(tmp_path: Path) -> None:
    with output_folder(tmp_path, STEM, "abc") as folder:
        assert re.fullmatch(re.escape(STEM) + r"__\d{8}-\d{6}", folder.path.name)
        assert not folder.continued


def test_an_interrupted_evaluation_is_continued_and_then_finished(tmp_path: Path) -> None:
    first = interrupted_run(tmp_path)
    with output_folder(tmp_path, STEM, "abc") as folder:
        assert (folder.path, folder.continued) == (first, True)
    assert not (first / LOCK_FILE).exists()
    with output_folder(tmp_path, STEM, "abc") as folder:
        assert folder.path != first


def test_other_settings_begin_a_folder_of_their_own(tmp_path: Path) -> None:
    first = interrupted_run(tmp_path)
    with output_folder(tmp_path, STEM, "other") as folder:
        assert (folder.path != first, folder.continued) == (True, False)


def test_a_folder_that_is_being_filled_is_left_alone(tmp_path: Path) -> None:
    with output_folder(tmp_path, STEM, "abc") as one, output_folder(tmp_path, STEM, "abc") as other:
        assert one.path != other.path


def test_a_run_whose_process_is_gone_is_continued(tmp_path: Path) -> None:
    """After kill -9 the marker still names the process; its number may belong to another one by now."""
    first = interrupted_run(tmp_path)
    ours = LockFile.of_this_process("abc")
    LockFile(ours.fingerprint, ours.host, ours.pid, ours.started - 100).write(first)
    with output_folder(tmp_path, STEM, "abc") as folder:
        assert folder.path == first


def test_a_run_on_another_computer_that_has_just_written_is_left_alone(tmp_path: Path) -> None:
    first = interrupted_run(tmp_path)
    LockFile("abc", "elsewhere", 1, 0.0).write(first)
    with output_folder(tmp_path, STEM, "abc") as folder:
        assert folder.path != first


def test_a_marker_that_cannot_be_read_is_not_continued(tmp_path: Path) -> None:
    first = interrupted_run(tmp_path)
    (first / LOCK_FILE).write_text("{", encoding="utf-8")
    with output_folder(tmp_path, STEM, "abc") as folder:
        assert folder.path != first
