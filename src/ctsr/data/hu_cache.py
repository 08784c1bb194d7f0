"""Cache of decoded series: int16 HU in memory-mapped files that all processes share."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctsr.documents import as_type, parse_json
from ctsr.errors import CtsrError, ReadError, boundary
from ctsr.exams import read_slice
from ctsr.files import atomic_folder, clear_leftovers, file_state, write_json
from ctsr.hashing import digest
from ctsr.hu import AIR, BLOCK, body_blocks
from ctsr.paths import PRIVATE_MODE, cache_folder
from ctsr.pool import available_cores, in_order, pool
from ctsr.reporting import SILENT, Progress
from ctsr.series import Command, Defect, Series, check
from ctsr.series_quality import SliceJudge
from ctsr.volume import PaddingMask

VERSION = 4
"""Version of the layout on disk and of what is computed into it; part of every fingerprint."""

HU_FILE, BODY_FILE = "hu.npy", "body.npy"
DOUBTS = "doubts.json"
"""Beside the pixels: what is strange about the values of single slices."""

PADDING = np.int16(np.iinfo(np.int16).min)
"""Stands for padding in a stored slice. Clipping to any HU range turns it into the range's lower end: air."""

OPEN_FILES = 128
"""Memory maps a process keeps open: below the usual limit of 1024 files, above what a batch touches."""

FEW_SLICES = 50
"""So few are decoded sooner than processes start that would share the work."""


HU = npt.NDArray[np.int16]


def default_store() -> Path:
    """The user's cache folder: originals and results stay free of it."""
    return cache_folder("store")


@dataclass(frozen=True)
class StoredSeries:
    """A series in the store. Small and picklable: pixels are mapped when they are asked for."""

    folder: Path
    patient_id: str
    series_uid: str
    identities: tuple[str, ...]
    """Identity of each slice, used in seeds and CSV rows."""
    z_mm: tuple[float, ...]
    """Position of each slice along the patient's axis."""
    rows: int
    columns: int
    pixel_spacing: tuple[float, float]
    slice_thickness: float | None
    kernel: str
    scanner: str
    body_part: str = ""
    doubts: tuple[Defect, ...] = ()
    """Defects of slices whose values are unlike those of the slices beside them."""

    @property
    def hu(self) -> HU:
        """(slices, rows, columns), HU as int16, `PADDING` where nothing was reconstructed; read-only."""
        return _mapped(self.folder, HU_FILE)

    @property
    def body(self) -> npt.NDArray[np.bool_]:
        """(slices, ⌈rows/8⌉, ⌈columns/8⌉): True in the body."""
        return _mapped(self.folder, BODY_FILE)

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
    """Result of opening many series: those that can be used, and a line for each that cannot."""

    series: tuple[StoredSeries, ...]
    failures: tuple[str, ...]


def open_all(
    series: Sequence[Series],
    store: Path,
    command: Command,
    *,
    assume_hu: bool = False,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> Opened:
    """Open the cached form of every series, in their order; decode those that are new or have changed.

    A series that cannot be decoded, or whose slices `command` refuses, does not stop the others.

    Raises:
        CtsrError: a process that decodes was killed.
    """
    stored = [_is_whole(item, _folder(item, store, assume_hu)) for item in series]
    todo = [item for item, is_there in zip(series, stored, strict=True) if not is_there]
    attempt = partial(_try_open, store=store, assume_hu=assume_hu)
    few = sum(len(item.slices) for item in todo) <= FEW_SLICES
    with pool(1 if few else min(workers or available_cores(), len(todo))) as executor:
        decoded = in_order(attempt, todo, executor)
        new = iter(list(progress.track(decoded, total=len(todo), what="Decoding series")))
    opened = [attempt(item) if is_there else next(new) for item, is_there in zip(series, stored, strict=True)]
    judge = partial(_judged, command=command, assume_hu=assume_hu, progress=progress)
    results = [judge(item, result) for item, result in zip(series, opened, strict=True)]
    return Opened(
        series=tuple(result for result in results if isinstance(result, StoredSeries)),
        failures=tuple(result for result in results if isinstance(result, str)),
    )


def _try_open(series: Series, store: Path, assume_hu: bool) -> StoredSeries | str:
    try:
        with boundary(str(series.path), "copy or export it again"):
            return open_series(series, store, assume_hu=assume_hu)
    except CtsrError as error:
        return f"{series.patient_id}: {error}"


def _judged(
    series: Series, opened: StoredSeries | str, *, command: Command, assume_hu: bool, progress: Progress
) -> StoredSeries | str:
    """The series as opened; or why `command` cannot use it, where it has slices unlike the others."""
    if isinstance(opened, str) or not opened.doubts:
        return opened
    try:
        for warning in check(replace(series, defects=opened.doubts), command, assume_hu=assume_hu):
            progress.note(f"warning: {warning}")
    except CtsrError as error:
        return f"{series.patient_id}: {error}"
    return opened


def open_series(series: Series, store: Path, *, assume_hu: bool = False) -> StoredSeries:
    """Open the cached form of one series; decode it when it is new or its files have changed.

    Raises:
        ReadError: a slice cannot be decoded.
    """
    folder = _folder(series, store, assume_hu)
    if not store.exists():
        # Pixels of patients: for the user's eyes only, unless the folder was made otherwise beforehand.
        store.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
    clear_leftovers(folder.parent)
    if not _is_whole(series, folder):
        _build(series, folder, assume_hu)
    return StoredSeries(
        folder=folder,
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
        body_part=series.body_part,
        doubts=as_type(parse_json((folder / DOUBTS).read_bytes()), tuple[Defect, ...]),
    )


def _folder(series: Series, store: Path, assume_hu: bool) -> Path:
    """``store/<which series>/<which state of its files>``."""
    which = digest(str(series.path.resolve()), series.series_uid, repr(series.geometry_key), size=10)
    return store.absolute() / which.hex() / _fingerprint(series, assume_hu)


def _fingerprint(series: Series, assume_hu: bool) -> str:
    """Changes when a file was replaced, a slice added, or this module computes something else."""
    slices = (f"{header.identity} {file_state(header.path)} {header.position}" for header in series.slices)
    return digest(VERSION, BLOCK, f"assume_hu {assume_hu}", *series.variant, *slices, size=10).hex()


def _is_whole(series: Series, folder: Path) -> bool:
    """Whether all of a series is in the store: a power cut or a failing disk may have left files without an end."""
    shape = len(series.slices), series.rows, series.columns
    blocks = shape[0], math.ceil(shape[1] / BLOCK), math.ceil(shape[2] / BLOCK)
    try:
        as_type(parse_json((folder / DOUBTS).read_bytes()), tuple[Defect, ...])
        held = [np.lib.format.open_memmap(folder / name, mode="r") for name in (HU_FILE, BODY_FILE)]
    except (OSError, EOFError, ValueError, ReadError):
        return False
    return [(array.shape, array.dtype) for array in held] == [(shape, np.dtype("<i2")), (blocks, np.dtype(np.bool_))]


def _build(series: Series, folder: Path, assume_hu: bool) -> None:
    """Decode into a temporary folder and move it into place; when another process was faster, keep its work."""
    earlier = [entry for entry in folder.parent.glob("[!.]*") if entry != folder]
    # What is there and not whole goes; a whole one is that of a process that was faster.
    with atomic_folder(folder, replace=not _is_whole(series, folder)) as part:
        _decode_into(series, part, assume_hu)
    for entry in earlier:
        shutil.rmtree(entry, ignore_errors=True)


def _decode_into(series: Series, folder: Path, assume_hu: bool) -> None:
    bodies: list[npt.NDArray[np.bool_]] = []
    doubts: list[Defect] = []
    judge = SliceJudge(series, "train", assume_hu=assume_hu)
    shape = (len(series.slices), series.rows, series.columns)
    # Written, not mapped: a full disk is then an error that can be reported, where a mapping ends the process.
    with (folder / HU_FILE).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": shape})
        for i in range(len(series.slices)):
            pixels = read_slice(series, i, assume_hu=assume_hu)
            doubts += judge.defects(i, pixels)
            # The lowest value is taken by PADDING; nothing physical lies anywhere near either end.
            rounded = np.clip(np.rint(pixels.hu), -32767, 32767).astype("<i2")
            bodies.append(body_blocks(rounded))
            stored = rounded if pixels.padding is None else np.where(pixels.padding, PADDING, rounded)
            file.write(stored.astype("<i2", copy=False).tobytes())
    np.save(folder / BODY_FILE, np.stack(bodies))
    write_json(folder / DOUBTS, [asdict(doubt) for doubt in doubts])
