"""The store: each series decoded once, the same HU as the reader gives, rebuilt when stale, never half there."""

import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from ctsr.data.hu_cache import PADDING, StoredSeries, open_all, open_series
from ctsr.exams import read_slice, scan_patient
from ctsr.hu import AIR, BLOCK, DEFAULT_RANGE, body_blocks
from ctsr.series import Series
from tests.made.ct import body, save_series


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """A patient's series: 5 slices whose corners are padding, stored as 0."""
    volume = np.stack([body(64, seed=i) for i in range(5)])
    rows, columns = np.mgrid[:64, :64] - np.float64(31.5)
    volume[:, np.hypot(rows, columns) > 32] = -1024
    return save_series(tmp_path / "P", volume, PixelPaddingValue=0)


def series_of(paths: list[Path]) -> Series:
    (series,) = scan_patient(paths[0].parent).series
    return series


def test_it_holds_what_the_reader_reads(paths: list[Path], tmp_path: Path) -> None:
    series = series_of(paths)
    stored = open_series(series, tmp_path / "store")
    assert len(stored) == 5
    assert stored.z_mm == tuple(header.position[2] for header in series.slices)
    assert stored.identities == tuple(header.identity for header in series.slices)
    for i in range(5):
        pixels = read_slice(series, i)
        assert np.array_equal(stored.slice_hu(i), pixels.hu)
        assert pixels.padding is not None
        assert np.array_equal(stored.padding(i), pixels.padding)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_new_cache_is_for_its_user_alone(paths: list[Path], tmp_path: Path) -> None:
    open_series(series_of(paths), tmp_path / "made" / "store")
    assert (tmp_path / "made" / "store").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    open_series(series_of(paths), tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755


def test_padding_is_remembered_and_becomes_air_in_any_range(paths: list[Path], tmp_path: Path) -> None:
    stored = open_series(series_of(paths), tmp_path / "store")
    assert stored.hu[0, 0, 0] == PADDING
    assert stored.slice_hu(0)[0, 0] == AIR
    assert DEFAULT_RANGE.to_unit(stored.hu[0])[0, 0] == -1


def test_a_second_opening_decodes_nothing(paths: list[Path], tmp_path: Path) -> None:
    first = open_series(series_of(paths), tmp_path / "store")
    written = (first.folder / "hu.npy").stat().st_mtime_ns
    again = open_series(series_of(paths), tmp_path / "store")
    assert again == first
    assert (again.folder / "hu.npy").stat().st_mtime_ns == written


def test_a_changed_file_makes_the_stored_series_stale(paths: list[Path], tmp_path: Path) -> None:
    before = open_series(series_of(paths), tmp_path / "store")
    dataset = dcmread(paths[2])
    values = np.frombuffer(dataset.PixelData, "<u2").copy()
    values[64 * 32 + 32] = 1024 + 777
    dataset.PixelData = values.tobytes()
    dataset.save_as(paths[2], overwrite=True)
    os.utime(paths[2], ns=(time.time_ns(), time.time_ns()))
    after = open_series(series_of(paths), tmp_path / "store")
    assert after.hu[2, 32, 32] == 777
    assert after.folder != before.folder
    assert not before.folder.exists()


def test_a_missing_slice_makes_it_stale(paths: list[Path], tmp_path: Path) -> None:
    assert len(open_series(series_of(paths), tmp_path / "store")) == 5
    paths[4].unlink()
    assert len(open_series(series_of(paths), tmp_path / "store")) == 4


def test_a_series_that_cannot_be_decoded_leaves_nothing_and_does_not_stop_the_others(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        save_series(tmp_path / name, np.stack([body(32, seed=i) for i in range(3)]), series=f"1.9.{len(name)}")
    broken = dcmread(tmp_path / "bad" / "IM2")
    del broken.RescaleSlope, broken.RescaleIntercept
    broken.save_as(tmp_path / "bad" / "IM2", overwrite=True)
    series = [scan_patient(tmp_path / name).series[0] for name in ("bad", "good")]
    opened = open_all(series, tmp_path / "store", "train")
    assert [one.patient_id for one in opened.series] == ["good"]
    (failure,) = opened.failures
    assert "bad" in failure
    assert "IM2" in failure
    assert not list((tmp_path / "store").rglob("*.part"))


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "pixels without an end": lambda folder: _cut(folder / "hu.npy"),
    "no pixels": lambda folder: (folder / "hu.npy").write_bytes(b""),
    "other bytes": lambda folder: (folder / "hu.npy").write_bytes(b"PK" + bytes(200)),
    "pixels of another shape": lambda folder: np.save(folder / "hu.npy", np.zeros((5, 32, 32), "<i2")),
    "pixels of another type": lambda folder: np.save(folder / "hu.npy", np.zeros((5, 64, 64), np.float32)),
    "no map of the body": lambda folder: (folder / "body.npy").unlink(),
    "a map without an end": lambda folder: _cut(folder / "body.npy"),
    "no doubts": lambda folder: (folder / "doubts.json").unlink(),
    "doubts without an end": lambda folder: _cut(folder / "doubts.json"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_stored_series_that_was_damaged_is_decoded_again(
    paths: list[Path], tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """It was a traceback in the middle of a training, or the fault of the exam, for ever."""
    series, store = series_of(paths), tmp_path / "store"
    folder = open_series(series, store).folder
    damage(folder)
    opened = open_all([series], store, "train")
    assert opened.failures == ()
    (stored,) = opened.series
    assert stored.folder == folder
    assert np.array_equal(np.load(folder / "hu.npy")[2], stored.hu[2])
    assert np.array_equal(stored.slice_hu(2), read_slice(series, 2).hu)
    assert stored.body.shape == (5, 8, 8)


def test_what_a_killed_decode_left_is_removed_once_nobody_can_be_at_it(paths: list[Path], tmp_path: Path) -> None:
    stored = open_series(series_of(paths), tmp_path / "store")
    old, young = (
        stored.folder.with_name(f".{stored.folder.name}.{name}.0a0a0a-1.part") for name in ("old_____", "young___")
    )
    for part in (old, young):
        part.mkdir()
        (part / "hu.npy").touch()
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    open_series(series_of(paths), tmp_path / "store")
    assert (old.exists(), young.exists(), stored.folder.is_dir()) == (False, True, True)


def test_processes_that_build_at_once_share_one_result(paths: list[Path], tmp_path: Path) -> None:
    series = series_of(paths)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(partial(open_series, store=tmp_path / "store"), [series] * 4))
    assert len({one.folder for one in results}) == 1
    assert all(np.array_equal(one.hu, results[0].hu) for one in results)
    assert sum(1 for _ in results[0].folder.parent.iterdir()) == 1


def test_a_stored_series_travels_between_processes_without_its_pixels(paths: list[Path], tmp_path: Path) -> None:
    stored = open_series(series_of(paths), tmp_path / "store")
    parcel = pickle.dumps(stored)
    assert len(parcel) < 5000
    copy: StoredSeries = pickle.loads(parcel)
    assert np.array_equal(copy.hu, stored.hu)


def test_stored_pixels_cannot_be_changed_by_accident(paths: list[Path], tmp_path: Path) -> None:
    stored = open_series(series_of(paths), tmp_path / "store")
    with pytest.raises(ValueError, match="read-only"):
        stored.hu[0, 0, 0] = 1


def test_the_body_map_finds_the_body_with_its_lungs_and_not_the_table() -> None:
    hu = np.full((160, 160), -1000, dtype=np.int16)
    rows, columns = np.mgrid[:160, :160] - np.float64(79.5)
    hu[(rows / 50) ** 2 + (columns / 60) ** 2 < 1] = 40
    hu[np.hypot(rows, columns - 25) < 20] = -850
    hu[150:154] = 200
    blocks = body_blocks(hu)
    assert blocks.shape == (20, 20)
    assert blocks[80 // BLOCK, (80 + 25) // BLOCK]
    assert not blocks[152 // BLOCK].any()
    assert not blocks[0].any()
    assert blocks.mean() == pytest.approx(np.pi * 50 * 60 / 160**2, rel=0.15)


def test_a_slice_of_air_has_somewhere_to_draw_from() -> None:
    assert body_blocks(np.full((40, 41), -1000, dtype=np.int16)).all()
