from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from ctsr.checkpoint import Model
from ctsr.errors import UsageError
from ctsr.infer import EngineRequest
from ctsr.reporting import Progress
from ctsr.upscale import UpscaleOptions
from ctsr.upscale import run as module
from ctsr.upscale.plan import Job
from ctsr.upscale.run import GrowingFolder, watch
from ctsr.upscale.series import Network, Outcome
from tests.made.ct import body, save, slices
from tests.made.listener import Listener

SETTLE_S = 30.0


class Time:
    """A clock that does one thing at each wait, and interrupts when there is no more to do."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.seconds = 0.0
        self.steps = list(steps)

    def now(self) -> float:
        return self.seconds

    def wait(self, _: float) -> None:
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()

    def pass_by(self, seconds: float = SETTLE_S) -> None:
        self.seconds += seconds


def add(folder: Path, *numbers: int, series: str = "1.2.3.4") -> None:
    for ds in slices([body(32, seed=i) for i in range(4)], series=series):
        if ds.InstanceNumber in numbers:
            save(ds, folder / f"{ds.InstanceNumber}")


def notes_of(
    source: Path, out: Path, model: Model, time: Time, between: Model | None = None, **options: object
) -> list[str]:
    """All that a watched folder says."""
    listener = Listener()
    with pytest.raises(KeyboardInterrupt):
        watch(
            source,
            out,
            model,
            EngineRequest("torch"),
            UpscaleOptions(**({"picture": False} | options)),  # pyright: ignore[reportArgumentType]
            settle_s=SETTLE_S,
            between=between,
            progress=listener,
            wait=time.wait,
            now=time.now,
        )
    return listener.notes


def watched(
    source: Path, out: Path, model: Model, time: Time, between: Model | None = None, **options: object
) -> list[str]:
    """What became of the series."""
    notes = notes_of(source, out, model, time, between, **options)
    return [note for note in notes if note.startswith(("done", "failed"))]


def counts(out: Path) -> list[int]:
    return sorted(len(list(record.parent.glob("*.dcm"))) for record in out.rglob("run.json"))


def test_a_series_is_taken_when_it_has_stopped_growing_and_again_when_it_grew(tmp_path: Path, bilinear: Model) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    seen: list[list[int]] = []
    time = Time(
        lambda: add(source / "anna", 1, 2),
        lambda: None,
    )
    time.steps += [
        lambda: (time.pass_by(20), add(source / "anna", 3)),
        lambda: (time.pass_by(20), seen.append(counts(out))),  # slice 3 is 20 s old
        lambda: time.pass_by(20),
        lambda: seen.append(counts(out)),
        lambda: add(source / "anna", 4),
        time.pass_by,
        lambda: seen.append(counts(out)),
        lambda: add(source / "bert", 1, 2, series="1.2.3.5"),
        time.pass_by,
    ]
    notes = watched(source, out, bilinear, time)
    assert seen == [[], [3], [4]]
    assert counts(out) == [2, 4]
    assert [note.rpartition(", ")[2] for note in notes] == ["3 slices", "4 slices", "2 slices"]
    (folder,) = (out / "anna").iterdir()
    assert dcmread(folder / "0001.dcm").Rows == 64


def test_slices_between_slices_are_made_of_what_arrives(tmp_path: Path, between: Model) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    add(source / "anna", 1, 2, 3)
    add(source / "bert", 1, 2, 4, series="1.2.3.5")  # a gap
    time = Time()
    time.steps = [time.pass_by, lambda: None, time.pass_by, lambda: add(source / "bert", 3, series="1.2.3.5")]
    time.steps += [time.pass_by, lambda: None]
    notes = watched(source, out, between, time, between, slice_spacing=1.0)
    assert [note.split(":")[0] for note in notes] == ["done", "failed", "done"]
    assert "5 mm between" in notes[1]
    assert counts(out) == [6, 8]  # 5 and 7.5 mm
    with pytest.raises(UsageError, match="slice_spacing"):
        watched(source, tmp_path / "none", between, Time(), slice_spacing=1.0)


def test_values_are_corrected_in_a_watched_folder_too(tmp_path: Path, bilinear: Model) -> None:
    source = tmp_path / "in"
    add(source / "anna", 1, 2)
    for name, offset in (("plain", 0.0), ("shifted", 100.0)):
        time = Time()
        time.steps = [time.pass_by, lambda: None]
        watched(source, tmp_path / name, bilinear, time, hu_offset=offset)
    (plain,), (shifted,) = (sorted((tmp_path / name).rglob("0001.dcm")) for name in ("plain", "shifted"))
    found = [dcmread(path) for path in (plain, shifted)]
    middle = [float(ds.pixel_array[32, 32] * ds.RescaleSlope + ds.RescaleIntercept) for ds in found]
    assert middle[1] - middle[0] == pytest.approx(100, abs=2)


def test_what_is_done_is_kept_and_what_failed_waits_for_a_change(tmp_path: Path, bilinear: Model) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    add(source / "anna", 1, 2)
    assert len(watched(source, out, bilinear, Time(lambda: None))) == 0  # not settled yet
    time = Time()
    time.steps = [time.pass_by, lambda: None]
    assert len(watched(source, out, bilinear, time)) == 1
    (record,) = out.rglob("run.json")
    before = record.stat().st_mtime_ns
    time = Time()
    time.steps = [time.pass_by, lambda: None]
    assert watched(source, out, bilinear, time) == []
    assert record.stat().st_mtime_ns == before
    (record.parent / "notes.txt").write_text("mine")
    time = Time()
    time.steps = [lambda: add(source / "anna", 3), time.pass_by, lambda: (source / "x").write_text(""), time.pass_by]
    (note,) = watched(source, out, bilinear, time)
    assert note.startswith("failed")
    assert "notes.txt" in note


def test_what_cannot_be_read_is_said_once_when_it_has_settled(tmp_path: Path, bilinear: Model) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    add(source / "sound", 1, 2, series="1.2.1")
    add(source / "broken", 1, series="1.2.2")
    broken = source / "broken" / "1"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-99])
    time = Time()
    time.steps = [time.pass_by, time.pass_by, lambda: add(source / "sound", 3, series="1.2.1"), time.pass_by]
    notes = watched(source, out, bilinear, time)
    (failed,) = [note for note in notes if note.startswith("failed")]
    assert str(broken) in failed
    assert "99 bytes early" in failed
    assert counts(out) == [3]
    time.steps = [lambda: broken.write_bytes(whole), time.pass_by, time.pass_by]
    assert [note.split(":")[0] for note in watched(source, out, bilinear, time)] == ["done"]


def test_of_two_files_of_one_name_one_is_made_and_neither_replaces_the_other(tmp_path: Path, bilinear: Model) -> None:
    source = tmp_path / "in"
    add(source / "anna", 1, 2)
    (source / "bert").mkdir()
    for name in ("ct.nii", "ct.nii.gz"):
        nib.save(nib.Nifti1Image(np.zeros((32, 32, 3)) - 1000 + body(32)[..., None], np.eye(4)), source / "bert" / name)
    time = Time()
    time.steps = [time.pass_by, lambda: None, lambda: (source / "x").write_text(""), time.pass_by, lambda: None]
    notes = watched(source, tmp_path / "out", bilinear, time)
    assert [note.split(":")[0] for note in notes] == ["done", "done", "failed"]
    assert "two results would be called" in notes[2]


def test_only_a_folder_can_be_watched(tmp_path: Path, bilinear: Model) -> None:
    file = tmp_path / "ct.nii.gz"
    file.write_bytes(b"")
    for source, out in ((file, tmp_path / "out"), (tmp_path, tmp_path / "out.nii.gz"), (tmp_path, tmp_path / "out")):
        with pytest.raises(UsageError):
            watch(source, out, bilinear, EngineRequest("torch"), UpscaleOptions(), settle_s=1)


def test_a_file_settles_by_when_a_change_was_seen_not_by_its_own_time(tmp_path: Path) -> None:
    folder = GrowingFolder(tmp_path, 10)
    (tmp_path / "a").write_bytes(b"1")
    assert not folder.look(0)
    assert not folder.look(9)
    (tmp_path / "a").write_bytes(b"12")
    assert not folder.look(10)
    assert folder.look(20)
    assert not folder.look(30)
    (tmp_path / "a").unlink()
    assert not folder.look(40)


def test_a_folder_that_goes_is_said_and_waited_for(tmp_path: Path, bilinear: Model) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    add(source / "anna", 1, 2)
    time = Time(lambda: source.rename(tmp_path / "unmounted"), lambda: None, lambda: None)
    time.steps += [lambda: (tmp_path / "unmounted").rename(source), time.pass_by, lambda: None, time.pass_by]
    notes = notes_of(source, out, bilinear, time)
    assert notes.count(f"warning: {source} is gone; waiting for it") == 1
    assert notes.count(f"{source} is there again") == 1
    assert [note for note in notes if note.startswith("done: ")]


def test_ct_that_cannot_be_read_is_named_once_when_it_has_stopped_growing(tmp_path: Path, bilinear: Model) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    add(source / "anna", 1, 2)
    whole = (source / "anna" / "1").read_bytes()
    (source / "bert").mkdir()
    time = Time(lambda: (source / "bert" / "half").write_bytes(whole[: len(whole) // 2]))
    time.steps += [time.pass_by, lambda: None, lambda: add(source / "cleo", 1), time.pass_by, lambda: None]
    notes = notes_of(source, out, bilinear, time)
    assert len([note for note in notes if note.startswith("failed: ") and "half" in note]) == 1
    assert len([note for note in notes if note.startswith("done: ")]) == 2


def test_a_series_that_found_no_room_is_tried_again_though_nothing_changes(
    tmp_path: Path, bilinear: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    add(source / "anna", 1, 2)
    full = [False, True]

    def attempt(job: Job, network: Callable[[], Network], progress: Progress) -> Outcome:
        if full.pop():
            return Outcome(output=job.output, error="no room left", is_disk_full=True)
        return real(job, network, progress)

    real = module.attempt
    monkeypatch.setattr(module, "attempt", attempt)
    time = Time()
    time.steps = [time.pass_by, lambda: None, time.pass_by, lambda: None]
    notes = notes_of(source, out, bilinear, time)
    assert [note.split(":")[0] for note in notes if note.startswith(("failed", "done"))] == ["failed", "done"]
