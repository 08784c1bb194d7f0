"""Each series decoded once: int16 HU in a memory-mapped file that every process shares."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from ctsr.data.body import BLOCK, body_blocks
from ctsr.errors import CtsrError
from ctsr.exams import read_slice
from ctsr.hu import AIR
from ctsr.pool import available_cores, in_order, pool
from ctsr.progress import Progress, Silent
from ctsr.series import Series
from ctsr.volume import PaddingMask

__all__ = ["PADDING", "Opened", "StoredSeries", "default_store", "open_all", "open_series"]

VERSION = 1
"""Of the layout on disk and of what is computed into it; part of every fingerprint."""

PADDING = np.int16(np.iinfo(np.int16).min)
"""Stands for padding in a stored slice. Clipping to any HU range turns it into the range's lower end: air."""

OPEN_FILES = 128
"""Memory maps a process keeps open: below the usual limit of 1024 files, above what a batch touches."""

FEW_SLICES = 50
"""So few are decoded sooner than processes start that would share the work."""

HU = npt.NDArray[np.int16]


def default_store() -> Path:
    """The user's cache folder: originals and results stay free of it."""
    return Path(platformdirs.user_cache_dir("ctsr")) / "store"


@dataclass(frozen=True)
class StoredSeries:
    """A series in the store. Small and picklable: pixels are mapped when they are asked for."""

    folder: Path
    patient_id: str
    series_uid: str
    identities: tuple[str, ...]
    """Of the slices: what seeds and CSV rows know them by."""
    z_mm: tuple[float, ...]
    """Of the slices: position along the patient's axis."""
    rows: int
    columns: int
    pixel_spacing: tuple[float, float]
    slice_thickness: float | None
    kernel: str
    scanner: str

    @property
    def hu(self) -> HU:
        """(slices, rows, columns), HU as int16, `PADDING` where nothing was reconstructed; read-only."""
        return _mapped(self.folder, "hu.npy")

    @property
    def body(self) -> npt.NDArray[np.bool_]:
        """(slices, ⌈rows/8⌉, ⌈columns/8⌉): True in the body."""
        return _mapped(self.folder, "body.npy")

    def slice_hu(self, index: int) -> npt.NDArray[np.float32]:
        """(rows, columns), HU, padding as air."""
        stored = self.hu[index]
        return np.where(stored == PADDING, np.float32(AIR), stored.astype(np.float32))

    def padding(self, index: int) -> PaddingMask:
        """(rows, columns): True where the scanner reconstructed nothing."""
        return np.asarray(self.hu[index] == PADDING)

    def __len__(self) -> int:
        """Slices."""
        return len(self.identities)


@lru_cache(maxsize=OPEN_FILES)
def _mapped(folder: Path, name: str) -> npt.NDArray[Any]:
    # As a plain array: every slice of a `memmap` goes through Python again, which costs more than the patch.
    return np.asarray(np.load(folder / name, mmap_mode="r"))


@dataclass(frozen=True)
class Opened:
    """What came of opening many series: those that can be used, and a line for each that cannot."""

    series: tuple[StoredSeries, ...]
    failures: tuple[str, ...]


def open_all(
    series: Sequence[Series],
    store: Path,
    *,
    assume_hu: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Opened:
    """The stored form of every series, in their order, decoding those that are new or have changed.

    A series that cannot be decoded does not stop the others.
    """
    todo = [one for one in series if not _is_stored(one, store, assume_hu)]
    attempt = partial(_try_open, store=store, assume_hu=assume_hu)
    few = sum(len(one.slices) for one in todo) <= FEW_SLICES
    with pool(1 if few else min(workers or available_cores(), len(todo))) as executor:
        decoded = in_order(attempt, todo, executor)
        for _ in (progress or Silent()).track(decoded, total=len(todo), what="Decoding series"):
            pass
    results = [attempt(one) for one in series]
    return Opened(
        series=tuple(result for result in results if isinstance(result, StoredSeries)),
        failures=tuple(result for result in results if isinstance(result, str)),
    )


def _try_open(series: Series, store: Path, assume_hu: bool) -> StoredSeries | str:
    try:
        return open_series(series, store, assume_hu=assume_hu)
    except (CtsrError, OSError) as error:
        return f"{series.patient_id}: {error}"


def open_series(series: Series, store: Path, *, assume_hu: bool = False) -> StoredSeries:
    """The stored form of one series; decodes it when it is new or its files have changed.

    Raises:
        ReadError: a slice cannot be decoded.
    """
    folder = _folder(series, store, assume_hu)
    if not folder.is_dir():
        _build(series, folder, assume_hu)
    document = json.loads((folder / "series.json").read_text(encoding="utf-8"))
    document["identities"] = tuple(document["identities"])
    document["z_mm"] = tuple(document["z_mm"])
    document["pixel_spacing"] = tuple(document["pixel_spacing"])
    # The names come from this scan: the same pixels may be filed under another patient folder tomorrow.
    return StoredSeries(**(document | {"folder": folder, "patient_id": series.patient_id}))


def _is_stored(series: Series, store: Path, assume_hu: bool) -> bool:
    return _folder(series, store, assume_hu).is_dir()


def _folder(series: Series, store: Path, assume_hu: bool) -> Path:
    """``store/<which series>/<which state of its files>``."""
    geometry = (series.rows, series.columns, *series.pixel_spacing, *series.orientation, *series.image_type)
    which = _digest(str(series.path.resolve()), series.series_uid, *map(str, geometry))
    return store.absolute() / which / _fingerprint(series, assume_hu)


def _fingerprint(series: Series, assume_hu: bool) -> str:
    """Changes when a file was replaced, a slice added, or this module computes something else."""
    words = [f"version {VERSION}", f"block {BLOCK}", f"assume_hu {assume_hu}"]
    for header in series.slices:
        stat = header.path.stat()
        words.append(f"{header.identity} {stat.st_size} {stat.st_mtime_ns} {header.position}")
    return _digest(*words)


def _digest(*words: str) -> str:
    return hashlib.blake2b("\n".join(words).encode(), digest_size=10).hexdigest()


def _build(series: Series, folder: Path, assume_hu: bool) -> None:
    """Decode into a temporary folder and move it into place; when another process was faster, keep its work."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    stale = [entry for entry in folder.parent.iterdir() if not entry.name.startswith(".")]
    part = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder.parent))
    try:
        _decode_into(series, part, assume_hu)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for entry in stale:
        if entry != folder:
            shutil.rmtree(entry, ignore_errors=True)


def _decode_into(series: Series, folder: Path, assume_hu: bool) -> None:
    shape = (len(series.slices), series.rows, series.columns)
    hu = np.lib.format.open_memmap(folder / "hu.npy", mode="w+", dtype=np.int16, shape=shape)
    bodies: list[npt.NDArray[np.bool_]] = []
    for i in range(len(series.slices)):
        pixels = read_slice(series, i, assume_hu=assume_hu)
        # The lowest value is taken by PADDING; nothing physical lies anywhere near either end.
        rounded = np.clip(np.rint(pixels.hu), -32767, 32767).astype(np.int16)
        bodies.append(body_blocks(rounded))
        hu[i] = rounded if pixels.padding is None else np.where(pixels.padding, PADDING, rounded)
    hu.flush()
    np.save(folder / "body.npy", np.stack(bodies))
    stored = StoredSeries(
        folder=Path(),
        patient_id=series.patient_id,
        series_uid=series.series_uid,
        identities=tuple(header.identity for header in series.slices),
        z_mm=tuple(header.position[2] for header in series.slices),
        rows=series.rows,
        columns=series.columns,
        pixel_spacing=series.pixel_spacing,
        slice_thickness=series.slice_thickness,
        kernel=series.kernel,
        scanner=series.scanner,
    )
    document = asdict(stored) | {"folder": ""}
    (folder / "series.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
