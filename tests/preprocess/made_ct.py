"""Small CT series written by pydicom alone: what the tests know the truth of."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests.needs import needs_program

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def ct_slice(
    hu: npt.NDArray[Any],
    *,
    spacing: tuple[float, float] = (0.7, 0.7),
    position: tuple[float, float, float] = (-100.0, -120.0, 30.0),
    orientation: tuple[float, ...] = AXIAL,
    uid: str = "1.2.3.4.1",
    series_uid: str = "1.2.3.4",
    number: int = 1,
    **extra: Any,
) -> Dataset:
    """A valid CT slice, stored unsigned with an intercept of −1024; `extra` sets or replaces attributes."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, uid, "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", series_uid, "1.2.3.9"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Doe^Jane", "P1", "", ""
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = "20200101", "", "", "", ""
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 3, number, 1
    ds.SeriesDescription, ds.Manufacturer, ds.PositionReferenceIndicator = "CHEST", "GE MEDICAL SYSTEMS", ""
    ds.BodyPartExamined = "CHEST"
    ds.ImageType, ds.KVP, ds.SliceThickness, ds.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], 120, 2.5, "HFS"
    ds.PixelSpacing, ds.ImagePositionPatient = list(spacing), list(position)
    ds.ImageOrientationPatient, ds.ConvolutionKernel = list(orientation), "STANDARD"
    ds.RescaleSlope, ds.RescaleIntercept, ds.WindowCenter, ds.WindowWidth = 1, -1024, 40, 400
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.Rows, ds.Columns = hu.shape
    ds.PixelData = (np.asarray(hu) + 1024).astype("<u2").tobytes()
    for keyword, value in extra.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def save(ds: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True, overwrite=True)
    return path


def save_series(folder: Path, volume: npt.NDArray[Any], *, series: str = "1.2.3.4", **keywords: Any) -> list[Path]:
    """A series of ``(slices, rows, columns)`` HU, 2.5 mm apart, as `IM1` … without an ending."""
    paths: list[Path] = []
    for i, hu in enumerate(volume, start=1):
        position = (-100.0, -120.0, 30.0 + 2.5 * i)
        ds = ct_slice(hu, position=position, uid=f"{series}.{i}", series_uid=series, number=i, **keywords)
        paths.append(save(ds, folder / f"IM{i}"))
    return paths


def dciodvfy_errors(path: Path) -> set[str]:
    """What Debian's dicom3tools find wrong with a file; warnings do not count."""
    program = needs_program("dciodvfy", "dicom3tools")
    run = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
    return {line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")}


def body(size: int = 40, seed: int = 0) -> npt.NDArray[np.int16]:
    """Noise around soft tissue in a disc, air around it; ``(size, size)`` HU."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    noise = np.random.default_rng(seed).normal(40, 12, (size, size))
    return np.where(np.hypot(rows, columns) < 0.4 * size, noise, -1000).astype(np.int16)
