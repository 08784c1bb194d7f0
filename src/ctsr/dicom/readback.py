"""A written slice read again, to make sure that the file says what was meant."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread

from ctsr.dicom.reading import MALFORMED
from ctsr.errors import ReadError
from ctsr.text import one_line
from ctsr.volume import PaddingMask, Plane, VoxelsHU

MM_WITHIN = 1e-6
ROUNDING = 1e-3
"""HU that float32 may add to half a slope."""


@dataclass(frozen=True)
class WrittenIdentity:
    """What tells a written slice from the others of its series."""

    sop_instance_uid: str
    series_uid: str
    instance_number: int


def verify_slice(path: Path, hu: VoxelsHU, padding: PaddingMask | None, plane: Plane) -> WrittenIdentity:
    """Read a classic slice with pydicom alone and compare it with what it was made of.

    Args:
        path: the file.
        hu: (rows, columns) that its values must give within half a slope where `padding` is not True.
        padding: where its values must be PixelPaddingValue, and nowhere else.
        plane: where its pixels must lie, to 1e-6 mm.

    Raises:
        ReadError: it cannot be read, or says something else.
    """
    try:
        ds = dcmread(path)
        stored, slope = ds.pixel_array, float(ds.RescaleSlope)
        origin, spacing = np.array(ds.ImagePositionPatient, float), np.array(ds.PixelSpacing, float)
        found = stored.astype(np.float64) * slope + float(ds.RescaleIntercept)
        empty = stored == ds.PixelPaddingValue if "PixelPaddingValue" in ds else np.zeros(stored.shape, np.bool_)
        written = WrittenIdentity(str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), int(ds.InstanceNumber))
        same_uid = ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    except MALFORMED as error:
        raise ReadError(f"{path}: cannot be read again: {one_line(error)}") from error
    if found.shape != hu.shape or found.shape != plane.shape:
        raise ReadError(f"{path}: read again it has {found.shape} pixels, not {hu.shape}")
    if not np.array_equal(empty, np.zeros_like(empty) if padding is None else padding):
        raise ReadError(f"{path}: read again its padding is another")
    if (np.abs(found - hu)[~empty] > slope / 2 + ROUNDING).any():
        raise ReadError(f"{path}: read again it holds other HU than were computed")
    if np.abs(origin - plane.origin).max() > MM_WITHIN or np.abs(spacing - plane.spacing).max() > MM_WITHIN:
        raise ReadError(f"{path}: read again it lies elsewhere")
    if not same_uid:
        raise ReadError(f"{path}: read again its file meta names another instance")
    return written
