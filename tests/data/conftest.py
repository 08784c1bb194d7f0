"""Stored series made from arrays, for tests of what is drawn from them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ctsr.data.body import body_blocks
from ctsr.data.store import StoredSeries


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


def body_hu(slices: int, rows: int, columns: int, seed: int = 0) -> npt.NDArray[np.int16]:
    """Air around a textured disc: (slices, rows, columns), HU."""
    rng = np.random.default_rng(seed)
    r, c = np.mgrid[:rows, :columns]
    disc = ((r - rows / 2) / (rows * 0.3)) ** 2 + ((c - columns / 2) / (columns * 0.3)) ** 2 < 1
    texture = rng.normal(40, 60, (slices, rows, columns))
    return np.where(disc, texture, -1000).astype(np.int16)


@pytest.fixture
def series(tmp_path: Path) -> StoredSeries:
    """Six slices of 150×203 pixels: sizes that neither 2 nor 4 divides."""
    return stored_series(tmp_path / "series", body_hu(6, 150, 203))
