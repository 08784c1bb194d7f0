"""Stored series made from arrays, for tests of what is drawn from them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctsr.data.hu_cache import StoredSeries
from ctsr.hu import body_blocks
from tests.made.ct import body


def stored_series(folder: Path, hu: npt.NDArray[np.int16], patient_id: str = "P") -> StoredSeries:
    """The store's form of these slices (slices, rows, columns), without a DICOM file behind it."""
    folder.mkdir(parents=True)
    np.save(folder / "hu.npy", hu)
    np.save(folder / "body.npy", np.stack([body_blocks(image) for image in hu]))
    slices, rows, columns = hu.shape
    return StoredSeries(
        folder=folder,
        patient_id=patient_id,
        series_uid=f"1.2.{patient_id}",
        identities=tuple(f"1.2.{patient_id}.{i}" for i in range(slices)),
        z_mm=tuple(2.5 * i for i in range(slices)),
        rows=rows,
        columns=columns,
        pixel_spacing=(0.8, 0.8),
        slice_thickness=2.5,
        kernel="B30f",
        scanner="none",
    )


def bodies(slices: int, rows: int, columns: int) -> npt.NDArray[np.int16]:
    """Textured discs in much air: (slices, rows, columns), HU."""
    return np.stack([body(rows, columns, seed=i, radius=0.6, texture=60) for i in range(slices)])
