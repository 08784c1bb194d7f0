"""CT made by pydicom alone, so that its truth is known: phantoms, slices, series, enhanced objects, files."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

Edit = Callable[[Dataset, int], object]
"""Changes a data set; is told its index."""
HU = npt.NDArray[Any]


def ellipse(
    shape: tuple[int, int], semi_rows: float, semi_columns: float, *, middle: tuple[float, float] = (0.0, 0.0)
) -> npt.NDArray[np.bool_]:
    """True inside; lengths and the middle are shares of half the image, counted from its centre."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return ((y - middle[0]) / semi_rows) ** 2 + ((x - middle[1]) / semi_columns) ** 2 < 1


def body(
    rows: int = 40,
    columns: int | None = None,
    *,
    seed: int = 0,
    radius: float = 0.8,
    texture: float = 12.0,
    smooth: float = 0.0,
) -> npt.NDArray[np.int16]:
    """(rows, columns) HU: soft tissue with a texture of so many HU in a disc, air of exactly −1000 HU around it.

    `smooth` is the σ in pixels of a filter that turns the texture's noise into blobs.
    """
    shape = (rows, rows if columns is None else columns)
    grain = np.random.default_rng(seed).normal(0, texture, shape)
    if smooth:
        grain = ndimage.gaussian_filter(grain, smooth)
    return np.where(ellipse(shape, radius, radius), 40 + grain, -1000).astype(np.int16)


def chest(rows: int = 64, columns: int = 48, *, seed: int = 0) -> HU:
    """(rows, columns) HU: an ellipse of soft tissue with lungs in noisy air."""
    shape = (rows, columns)
    hu = np.where(ellipse(shape, 0.63, 0.77), 40.0, -1000.0)
    for side in (-0.35, 0.35):
        hu[ellipse(shape, 0.22, 0.22, middle=(0, side))] = -850
    return (hu + np.random.default_rng(seed).normal(0, 8, shape)).round().clip(-1024, 3000)


def padded(hu: HU, value: float) -> HU:
    """The same with `value` outside the ellipse that fits into the image."""
    return np.where(ellipse(hu.shape, 1, 1), hu, value)


def ct_slice(
    hu: HU,
    *,
    spacing: tuple[float, float] = (0.7, 0.7),
    position: tuple[float, float, float] = (-100.0, -120.0, 30.0),
    orientation: tuple[float, ...] = AXIAL,
    uid: str = "1.2.3.4.1",
    series_uid: str = "1.2.3.4",
    number: int = 1,
    **extra: Any,
) -> Dataset:
    """A valid CT slice, stored unsigned with an intercept of −1024; `extra` sets, replaces or (None) removes."""
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


def slices(
    images: int | Iterable[HU], edit: Edit | None = None, *, step: float = 2.5, series: str = "1.2.3.4", **extra: Any
) -> list[Dataset]:
    """One slice for each image (or so many chests), `step` mm apart, from below; `edit` changes each."""
    made: list[Dataset] = []
    for i, hu in enumerate([chest(seed=i) for i in range(images)] if isinstance(images, int) else images):
        place = (-100.0, -120.0, 30.0 + step * i)
        ds = ct_slice(hu, position=place, uid=f"{series}.{i + 1}", series_uid=series, number=i + 1, **extra)
        if edit is not None:
            edit(ds, i)
        made.append(ds)
    return made


def enhanced(made: Sequence[Dataset]) -> Dataset:
    """Classic slices as one enhanced multi-frame object: geometry and rescale only in its functional groups."""
    first = made[0]
    ds = Dataset()
    ds.update(first)
    ds.file_meta = first.file_meta
    for name in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"):
        delattr(ds, name)
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.SOPClassUID, ds.SOPInstanceUID, ds.NumberOfFrames = EnhancedCTImageStorage, "1.2.3.4.99", len(made)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = DicomSequence(map(_frame, made))
    ds.PixelData = b"".join(one.PixelData for one in made)
    return ds


def _frame(ds: Dataset) -> Dataset:
    frame, position, values = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = ds.ImagePositionPatient
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = ds.RescaleSlope, ds.RescaleIntercept, "HU"
    frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [values]
    return frame


def stored(ds: Dataset) -> HU:
    """(rows, columns) as an uncompressed little-endian data set stores them."""
    dtype = f"<{'i' if ds.PixelRepresentation else 'u'}{ds.BitsAllocated // 8}"
    return np.frombuffer(ds.PixelData, dtype=dtype).reshape(ds.Rows, ds.Columns)


def store(ds: Dataset, values: HU, *, signed: bool = False, bits: int = 16, allocated: int = 16) -> Dataset:
    """Put `values` in as they are, in this pixel format."""
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, bits, bits - 1, int(signed)
    ds.PixelData = np.asarray(values).astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
    ds["PixelData"].VR = "OW" if allocated > 8 else "OB"
    return ds


def save(ds: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True, overwrite=True)
    return path


def save_series(folder: Path, images: Iterable[HU], *, series: str = "1.2.3.4", **extra: Any) -> list[Path]:
    """A series of these images as files `IM1` …, from below; see `slices`."""
    return [save(ds, folder / f"IM{i}") for i, ds in enumerate(slices(images, series=series, **extra), start=1)]


def write(folder: Path, made: Sequence[Dataset]) -> Path:
    """Each data set as a file without an ending, in an order that is not that of the slices."""
    for i, ds in enumerate(made):
        save(ds, folder / f"IM{(i * 7) % 97:03d}_{i}")
    return folder


def write_series(folder: Path, count: int, edit: Edit | None = None, *, step: float = 2.5) -> Path:
    return write(folder, slices(count, edit, step=step))


def save_thick_series(folder: Path) -> Path:
    """Eight slices of 5 mm, 4 mm apart."""
    images = [body(40, seed=i, smooth=1.5, texture=60) for i in range(8)]
    save_series(folder, images, step=4.0, SliceThickness=5, SpacingBetweenSlices=4)
    return folder
