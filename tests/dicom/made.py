"""Exams the reader's tests make: from nothing, or from real slices that are copied and edited."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ctsr.exams import scan_patient
from ctsr.series import DefectKind, PatientExams, Series
from tests.preprocess.made_ct import ct_slice, save

Edit = Callable[[Dataset, int], object]
HU = npt.NDArray[Any]

SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}


def body(rows: int = 64, columns: int = 48, *, seed: int = 0) -> HU:
    """(rows, columns) HU: an ellipse of soft tissue with lungs in noisy air."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    hu = np.full((rows, columns), -1000.0)
    hu[x**2 / 0.6 + y**2 / 0.4 < 1] = 40
    hu[(abs(x) - 0.35) ** 2 + y**2 < 0.05] = -850
    return (hu + rng.normal(0, 8, hu.shape)).round().clip(-1024, 3000)


def padded(hu: HU, value: float) -> HU:
    """The same with `value` outside the circle that fits into the image."""
    y, x = np.mgrid[-1 : 1 : hu.shape[0] * 1j, -1 : 1 : hu.shape[1] * 1j]
    return np.where(x**2 + y**2 > 1, value, hu)


def slices(count: int, edit: Edit | None = None, *, step: float = 2.5) -> list[Dataset]:
    """`count` slices `step` mm apart, from below; `edit` changes each."""
    made: list[Dataset] = []
    for i in range(count):
        ds = ct_slice(body(seed=i), position=(-100.0, -120.0, 30.0 + step * i), uid=f"1.2.3.4.{i + 1}", number=i + 1)
        if edit is not None:
            edit(ds, i)
        made.append(ds)
    return made


def write(folder: Path, made: Sequence[Dataset]) -> Path:
    """Each data set as a file without an ending, in an order that is not that of the slices."""
    for i, ds in enumerate(made):
        save(ds, folder / f"IM{(i * 7) % 97:03d}_{i}")
    return folder


def write_series(folder: Path, count: int, edit: Edit | None = None, *, step: float = 2.5) -> Path:
    return write(folder, slices(count, edit, step=step))


def only_series(folder: Path) -> Series:
    exams = scan_patient(folder)
    assert len(exams.series) == 1, exams
    return exams.series[0]


def kinds(exams: PatientExams | Series) -> set[DefectKind]:
    series = exams.series if isinstance(exams, PatientExams) else (exams,)
    return {defect.kind for one in series for defect in one.defects}


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


def transcoded(ds: Dataset, syntax: UID) -> Dataset:
    """The same image in another transfer syntax."""
    if syntax in {RLELossless, JPEGLSLossless, JPEG2000Lossless}:
        ds.compress(syntax, generate_instance_uid=False)
        return ds
    if syntax == JPEGLosslessSV1:
        import imagecodecs

        code = imagecodecs.ljpeg_encode(stored(ds).view(np.uint16), bitspersample=16)
        ds.PixelData = encapsulate([code + b"\0" * (len(code) % 2)])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    if syntax == ExplicitVRBigEndian:
        # Built anew: pydicom will not turn over a data set that it has read.
        fresh = Dataset()
        for element in ds:
            fresh.add(element)
        fresh.PixelData, fresh.file_meta = stored(ds).byteswap().tobytes(), ds.file_meta
        ds = fresh
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


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


def real_slices(real_ct: Path, patient: str, count: int) -> list[Dataset]:
    """The lowest `count` slices of a real patient, whole, from below."""
    paths = only_series(real_ct / "patients" / patient).slices[:count]
    return [dcmread(header.path) for header in paths]


def edited(made: Sequence[Dataset], edit: Edit) -> Iterator[Dataset]:
    for i, ds in enumerate(made):
        edit(ds, i)
        yield ds
