"""What the tests of the synthetic set measure, with pydicom and NumPy alone."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileDataset

from ctsr.phantom.truth import ExamTruth, Landmark


def images(folder: Path) -> list[FileDataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def hounsfield(image: FileDataset) -> npt.NDArray[np.float64]:
    return image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)


def nearest_image(truth: ExamTruth, z: float) -> FileDataset:
    return min(images(truth.path), key=lambda image: abs(float(image.ImagePositionPatient[2]) - z))


def values_at(image: FileDataset, landmark: Landmark) -> npt.NDArray[np.float64]:
    """HU of the pixels within the landmark's inner radius, found as any DICOM reader finds them."""
    left, top, _ = map(float, image.ImagePositionPatient)
    row_step, column_step = map(float, image.PixelSpacing)
    row, column = np.indices((image.Rows, image.Columns))
    x, y, _ = landmark.position
    near = np.hypot(left + column * column_step - x, top + row * row_step - y) <= landmark.inner_radius
    return hounsfield(image)[near]
