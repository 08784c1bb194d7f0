"""NIfTI, NRRD and MetaImage volumes in HU, read as if they were a series of axial slices; NIfTI is written."""

import gzip
import logging
import math
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
import psutil
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.spatialimages import HeaderDataError

from ctsr.errors import ReadError
from ctsr.files import atomic_path, cached_by_file
from ctsr.hashing import content_identity
from ctsr.hu import AS_READ, HUCorrection, rescale_problem
from ctsr.padding import SlicePixels, outside_reconstruction
from ctsr.reporting import one_line, size
from ctsr.series import (
    SUPER_RESOLVED,
    Defect,
    DefectKind,
    Excluded,
    Series,
    SliceHeader,
    are_volume_words,
    is_nifti,
    plane_problem,
    too_small,
)
from ctsr.simpleitk_volumes import AGAIN, NO_SIMPLEITK, has_simpleitk, read_by_simpleitk
from ctsr.volume import LARGEST_STEP_MM, SMALLEST_STEP_MM, Affine, Grid, Vector, corners_apart, reordered

BROKEN = (
    *(ImageFileError, HeaderDataError, zlib.error),
    *(EOFError, KeyError, OSError, OverflowError, TypeError, ValueError),
)
"""What nibabel raises on files that are cut short or are none."""

# It reports through a logger of its own what it mends in headers, without the file's name.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)

MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
"""Millimetres in the header's unit of length."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ORTHOGONAL_WITHIN = 1e-2
SAME_PLACE, SAME_LENGTH = 0.5, 1e-2
"""Share of a voxel by which corners may lie apart by the qform and the sform, and of lengths."""
SQUARE_WITHIN = 1e-2
LONGEST_DESCRIPTION = 79
"""Bytes that a NIfTI header has for words."""
VOXELS_AT = 352
"""Bytes before the first voxel: the header, and the mark that no extension follows."""

MOST_PACKED = 1033
"""Times by which deflate makes bytes fewer, at most."""
CHUNK_BYTES = 2**20
SAMPLE_BYTES = 2**16
"""Read from a file's beginning, middle and end to know a copy of it."""


@dataclass(frozen=True)
class _Image:
    """A file seen as axial slices: which of its axes grow with slice, row and column, and which way."""

    voxels: npt.NDArray[Any]
    """As the file has them: its own axes, before scl_slope and scl_inter. Mapped, not loaded, where uncompressed."""
    slope: float
    intercept: float
    axes: tuple[int, int, int]
    """The file's axis that is nearest to superior, posterior, left."""
    backwards: tuple[bool, bool, bool]
    """Where the file's index runs the other way."""
    affine: Affine
    """4×4: (slice, row, column) index → LPS position in mm."""
    description: str
    doubt: str
    """What its header says twice and in two ways about where it lies; empty where it does not."""
    identities: tuple[str, ...]
    """Of the file as it lies on the disk; of a compressed one, of what it inflates to as well, which is the last."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        shape = self.voxels.shape
        return shape[self.axes[0]], shape[self.axes[1]], shape[self.axes[2]]

    def stored_index(self, index: int) -> int:
        """The index along the file's own slice axis of the slice that is `index`-th from below."""
        return self.shape[0] - 1 - index if self.backwards[0] else index

    def plane(self, stored_index: int) -> npt.NDArray[np.float32]:
        """(rows, columns) in HU, rows from anterior to posterior, columns from right to left."""
        # A view: `np.take` would first copy the whole volume, whose slices lie the other way round in memory.
        plane = np.moveaxis(self.voxels, self.axes[0], 0)[stored_index]
        if self.axes[1] > self.axes[2]:
            plane = plane.T
        plane = np.flip(plane, tuple(axis for axis in (0, 1) if self.backwards[axis + 1]))
        return (plane.astype(np.float64) * self.slope + self.intercept).astype(np.float32)


def scan_file(path: Path, patient_id: str, *, name: str, correction: HUCorrection = AS_READ) -> Series | Excluded:
    """One file as a series whose UID is `name`, or why it cannot be one.

    Args:
        path: the file.
        patient_id: whose it is.
        name: tells it from the patient's other volumes.
        correction: of its values, with which they are to look like HU; the series has them as they are.
    """
    if not is_nifti(path) and not has_simpleitk():
        return Excluded(path, NO_SIMPLEITK, series_uid=name)
    try:
        image = _open(path)
    except ReadError as error:
        return Excluded(path, f"{error}; {AGAIN}", series_uid=name, failed=True)
    except BROKEN as error:
        return Excluded(path, f"unreadable: {one_line(error)}; {AGAIN}", series_uid=name, failed=True)
    why = _unusable(image, correction)
    failed = bool(rescale_problem(image.slope, image.intercept))
    return Excluded(path, why, image.shape[0], name, failed=failed) if why else _series(path, image, patient_id, name)


def read_pixels(header: SliceHeader) -> SlicePixels:
    """One slice in HU; what is no finite number, and the constant outside a reconstruction circle, are padding.

    Raises:
        ReadError: the file is gone or cut short.
    """
    try:
        image = _open(header.path)
    except BROKEN as error:
        raise ReadError(f"{header.path}: cannot be read: {one_line(error)}; copy it again") from error
    hu = image.plane(header.frame or 0)
    if (header.rescale_slope, header.rescale_intercept) != (1, 0):  # corrected by the user
        scaled = hu.astype(np.float64) * (header.rescale_slope or 1) + (header.rescale_intercept or 0)
        hu = scaled.astype(np.float32)
    nowhere = ~np.isfinite(hu)
    padding = outside_reconstruction(np.where(nowhere, np.float32(-1e4), hu))
    return SlicePixels.from_padded(hu, nowhere if padding is None else padding | nowhere)


def save_volume(
    path: Path, values: npt.NDArray[np.int16], grid: Grid, *, slope: float, intercept: float, description: str = ""
) -> None:
    """Write a volume, whole or not at all, compressed where the name ends in `.gz`; always the same bytes.

    Args:
        path: a file that is there is replaced.
        values: ``(slices, rows, columns)``; HU are ``value · slope + intercept``.
        grid: where the voxels lie; its shape is that of `values`.
        slope: not 0.
        intercept: HU.
        description: words for the header, 79 bytes of ASCII.
    """
    with volume_writer(path, grid, slope=slope, intercept=intercept, description=description) as add:
        for plane in values:
            add(plane)


@contextmanager
def volume_writer(
    path: Path, grid: Grid, *, slope: float = 1, intercept: float = 0, description: str = ""
) -> Generator[Callable[[npt.NDArray[np.int16]], object]]:
    """As `save_volume`, for who has one slice at a time: what is yielded takes them, the first of the grid first."""
    # The file's first axis is the one that varies fastest: columns, then rows, then slices.
    affine = RAS_TO_LPS @ grid.affine[:, [2, 1, 0, 3]]
    image = Nifti1Image(np.broadcast_to(np.int16(0), grid.shape[::-1]), affine)
    image.header.set_xyzt_units("mm")
    image.update_header()
    # The qform has no shear whatever rounding did to the affine: readers that insist on right angles use it.
    image.set_qform(affine, code=1)
    image.header.set_slope_inter(slope, intercept)
    image.header["vox_offset"] = VOXELS_AT
    image.header["descrip"] = description.encode("ascii", "replace")[:LONGEST_DESCRIPTION]
    with atomic_path(path) as part, part.open("wb") as file, _packed(file, path) as stream:
        stream.write(image.header.binaryblock.ljust(VOXELS_AT, b"\0"))
        yield lambda plane: stream.write(plane.astype("<i2", copy=False).tobytes())


def _packed(file: BinaryIO, path: Path) -> AbstractContextManager[BinaryIO]:
    if path.name.lower().endswith(".gz"):
        # No name and no time: the same volume gives the same bytes.
        return cast("AbstractContextManager[BinaryIO]", gzip.GzipFile("", "wb", fileobj=file, mtime=0))
    return nullcontext(file)


def verify_volume(path: Path, grid: Grid, checksums: Sequence[int]) -> None:
    """Read a written volume again, a slice at a time, and compare it with what was meant.

    Args:
        path: the file.
        grid: where its voxels must lie, to 1e-4 mm: NIfTI holds positions as float32.
        checksums: `zlib.crc32` of each slice's signed 16-bit values.

    Raises:
        ReadError: it cannot be read, or says something else.
    """
    try:
        image = cast("Nifti1Image", nib.load(path))
        affine = (RAS_TO_LPS @ np.asarray(image.affine))[:, [2, 1, 0, 3]]
        same_place = image.shape == grid.shape[::-1] and np.allclose(affine, grid.affine, rtol=1e-6, atol=1e-4)
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            stream.read(VOXELS_AT)
            found = [zlib.crc32(stream.read(2 * grid.shape[1] * grid.shape[2])) for _ in range(grid.shape[0])]
    except BROKEN as error:
        raise ReadError(f"{path}: cannot be read back: {one_line(error)}") from error
    if not same_place or found != list(checksums):
        raise ReadError(
            f"{path}: read back, it holds other {'values' if same_place else 'positions'} than were written"
        )


@cached_by_file(1)
def _open(path: Path) -> _Image:
    """Kept for the next slice of the same file: a compressed file is inflated as a whole."""
    return _open_nifti(path) if is_nifti(path) else _by_simpleitk(path)


def _by_simpleitk(path: Path) -> _Image:
    voxels, affine, doubt = read_by_simpleitk(path)
    return _image(voxels, affine, description="", doubt=doubt, identities=(_file_identity(path),))


def _open_nifti(path: Path) -> _Image:
    loaded, identities = _loaded(path)
    header = loaded.header
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        raise ReadError("the header gives no orientation (sform and qform codes are 0)")
    scale = MM.get(str(header.get_xyzt_units()[0]), 1.0)
    affine = RAS_TO_LPS @ np.diag([scale, scale, scale, 1.0]) @ np.asarray(loaded.affine, dtype=np.float64)
    proxy = cast("ArrayProxy", loaded.dataobj)
    voxels = np.asanyarray(proxy.get_unscaled())
    words = header["descrip"].tobytes().split(b"\0")[0].decode("latin-1").strip()
    slope, intercept = float(proxy.slope), float(proxy.inter)
    return _image(
        voxels,
        affine,
        slope=slope,
        intercept=intercept,
        description=words,
        doubt=_doubt(header, loaded.shape, scale),
        identities=identities,
    )


def _doubt(header: Nifti1Header, shape: Sequence[int], scale: float) -> str:
    """Where a header contradicts itself, with lengths in its own unit of `scale` mm; empty where it does not.

    Programs differ in what they believe: many take the sform, FSL for one the lengths of pixdim.
    """
    try:
        sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    except HeaderDataError:  # quaternions that are none; there is a sform, or no affine at all
        return ""
    if sform is None or not np.isfinite(sform).all():
        return ""
    lengths = np.linalg.norm(sform[:3, :3], axis=0)
    if qform is not None and np.isfinite(qform).all():
        apart = corners_apart(sform, qform, shape)
        if apart > SAME_PLACE * lengths.min():
            return (
                f"its qform and its sform put its corners up to {apart * scale:.3g} mm apart; the sform is taken: "
                "where the qform is right, set sform_code to 0"
            )
        return ""
    stated = np.asarray(header["pixdim"][1:4], np.float64)
    if (stated > 0).all() and (np.abs(lengths / stated - 1) > SAME_LENGTH).any():
        words = [str(np.round(sides * scale, 3).tolist())[1:-1] for sides in (lengths, stated)]
        return f"its voxels measure {' mm by its sform and '.join(words)} mm by pixdim; the sform is taken"
    return ""


def _image(
    voxels: npt.NDArray[Any],
    affine: Affine,
    *,
    slope: float = 1,
    intercept: float = 0,
    description: str,
    doubt: str,
    identities: tuple[str, ...],
) -> _Image:
    """The voxels of a file, and its affine in LPS and mm, as axial slices."""
    if not np.isfinite(affine).all():
        raise ReadError("its affine is not made of numbers")
    if voxels.ndim < 3 or voxels.size != np.prod(voxels.shape[:3]) or voxels.dtype.kind not in "iuf":
        raise ReadError(f"not one volume of numbers: shape {voxels.shape}, type {voxels.dtype}")
    axes, backwards = _layout(affine)
    return _Image(
        voxels=voxels.reshape(voxels.shape[:3]),
        slope=slope,
        intercept=intercept,
        axes=axes,
        backwards=backwards,
        affine=reordered(affine, voxels.shape, axes, backwards),
        description=description,
        doubt=doubt,
        identities=identities,
    )


def _loaded(path: Path) -> tuple[Nifti1Image, tuple[str, ...]]:
    """The file with its voxels not yet looked at; of a compressed one, inflated to its end, where its checksum is.

    With it come its identities. A compressed file has that of its bytes, by which older models know it, and that
    of the same volume uncompressed: programs compress it anew with another time and level.

    Raises:
        ReadError: it holds less than its header promises.
    """
    image = cast("Nifti1Image", nib.load(path))
    proxy = cast("ArrayProxy", image.dataobj)
    _check_length(path, proxy)
    if not path.name.lower().endswith(".gz"):
        return image, (_file_identity(path),)
    promised = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    if promised > psutil.virtual_memory().available / 2:
        raise ReadError(f"it inflates to {size(promised)}, more than half of the memory that is free")
    with gzip.open(path) as stream:
        content = stream.read(promised)
        length = len(content)
        while chunk := stream.read(CHUNK_BYTES):
            length += len(chunk)
        # What little may follow the voxels was not kept.
        whole = BytesIO(content) if length == len(content) else cast("BinaryIO", stream)
        inflated = _content_identity(whole, length)
    return type(image).from_bytes(content), (_file_identity(path), inflated)


def _check_length(path: Path, proxy: ArrayProxy) -> None:
    """Compare what the header promises with the file's size, before memory is taken for it.

    Raises:
        ReadError: there is less.
    """
    promised = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    packed = path.name.lower().endswith(".gz")
    if promised > path.stat().st_size * (MOST_PACKED if packed else 1):
        raise ReadError(f"it is cut short: its header promises {size(promised)}")


def _layout(affine: Affine) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which file axis is nearest to z, y and x (LPS), and whether it runs against it."""
    # io_orientation pairs each axis with a world axis one to one; flips are relative to the frame it is given.
    pairs = nib.orientations.io_orientation(affine)
    if np.isnan(pairs).any():
        raise ReadError("its affine is singular: two axes are parallel, or one has no length")
    axes = [int(np.flatnonzero(pairs[:, 0] == world)[0]) for world in (2, 1, 0)]
    slices, rows, columns = axes
    against = tuple(bool(pairs[axis, 1] < 0) for axis in axes)
    return (slices, rows, columns), (against[0], against[1], against[2])


def _unusable(image: _Image, correction: HUCorrection) -> str:
    """Why a volume is no axial CT in HU, once it is corrected; empty where it is."""
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    directions = image.affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > ORTHOGONAL_WITHIN:
        return "its affine is sheared (a tilted gantry that was not corrected)"
    if image.axes[0] != 2 and abs(spacing[1] / spacing[2] - 1) > SQUARE_WITHIN:
        return "its slices are not axial: resample it to axial slices first"
    if not SMALLEST_STEP_MM <= spacing[0] <= LARGEST_STEP_MM:
        return f"its slices lie {spacing[0]:g} mm apart, as in no scan"
    x, y, z = image.affine[:3, 3].tolist()
    if why := plane_problem(image.shape[1:], (spacing[1], spacing[2]), (x, y, z)):
        return why
    if why := rescale_problem(image.slope, image.intercept):
        return why
    if why := too_small(*image.shape[1:]):
        return why
    scale, offset = correction.scale, correction.offset
    if not any((image.plane(index) * scale + offset < 0).any() for index in _middle_first(image.shape[0])):
        return (
            "no value lies below 0: a label map or an image that is not in HU (pass `hu_offset` -1024 if it holds "
            "HU + 1024)"
        )
    return ""


def _middle_first(count: int) -> list[int]:
    return sorted(range(count), key=lambda index: abs(index - count // 2))


def _series(path: Path, image: _Image, patient_id: str, name: str) -> Series:
    slices, rows, columns = image.shape
    step, between_rows, between_columns = np.linalg.norm(image.affine[:3, :3], axis=0).tolist()
    along_rows, along_columns = image.affine[:3, 1] / between_rows, image.affine[:3, 2] / between_columns
    a, b, c, d, e, f = np.concatenate([along_columns, along_rows]).tolist()
    found = (
        (DefectKind.SUPER_RESOLVED, SUPER_RESOLVED, are_volume_words(image.description)),
        (DefectKind.DOUBTFUL_GEOMETRY, image.doubt, bool(image.doubt)),
        (DefectKind.SINGLE_SLICE, "it is a single slice", slices == 1),
    )
    return Series(
        patient_id=patient_id,
        path=path,
        series_uid=name,
        study_uid="",
        slices=tuple(_slice(path, image, index, step) for index in range(slices)),
        rows=rows,
        columns=columns,
        pixel_spacing=(between_rows, between_columns),
        orientation=(a, b, c, d, e, f),
        description=image.description,
        slice_thickness=step,
        slice_step=step if slices > 1 else None,
        defects=tuple(Defect(kind, detail, tuple(range(slices))) for kind, detail, is_so in found if is_so),
        identities=image.identities,
    )


def _file_identity(path: Path) -> str:
    with path.open("rb") as file:
        return _content_identity(file, path.stat().st_size)


def _content_identity(stream: BinaryIO, length: int) -> str:
    """Of so many bytes, their beginning, middle and end: a copy has the same, whatever it is called."""
    samples: list[bytes] = []
    for place in (0, length // 2, max(0, length - SAMPLE_BYTES)):
        stream.seek(place)
        samples.append(stream.read(SAMPLE_BYTES))
    return content_identity(length, *samples)


def _slice(path: Path, image: _Image, index: int, step: float) -> SliceHeader:
    x, y, z = (image.affine @ np.array([index, 0, 0, 1.0]))[:3].tolist()
    position: Vector = x, y, z
    return SliceHeader(
        path=path,
        frame=image.stored_index(index),
        sop_instance_uid="",
        position=position,
        instance_number=index + 1,
        rescale_slope=1.0,
        rescale_intercept=0.0,
        slice_thickness=step,
    )
