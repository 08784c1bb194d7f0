"""A synthetic CT exam set: computed anatomy with known HU at known positions, written as valid DICOM.

One small volume of it serves examples and first steps: a chest with known anatomy, made in seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ctsr.dicom.encode import IMPLEMENTATION_VERSION_NAME, decimal_string, file_meta
from ctsr.errors import DomainError
from ctsr.files import atomic_path
from ctsr.hashing import derived_uid, rng_from
from ctsr.phantom.patients import Acquisition, Body, Insert, Patient, PixelGrid, patient
from ctsr.phantom.rendering import KERNELS, Image, Stored, acquire, store
from ctsr.phantom.truth import ExamTruth, find_landmarks, place_inserts, write_truth
from ctsr.pool import available_cores, in_order, pool
from ctsr.reporting import SILENT, Progress
from ctsr.volume import Grid, Orientation, Vector, Volume

_BLOCK = 8
_SLAB_STEP = 2.0
_SCOUT_SPACING = 3.0
_SCOUT_MATRIX = 128


def make_exams(
    out_dir: Path,
    *,
    seed: int = 0,
    patients: int = 8,
    slices: int = 24,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> tuple[ExamTruth, ...]:
    """Write ``out_dir/<patient>/<series>/<n>.dcm`` and ``out_dir/truth.json``.

    The same seed gives the same bytes for any number of workers. The first six patients cover all scanners, a
    localizer, a patient with two series and an implant.

    Args:
        out_dir: created if it does not exist; existing files of the same names are replaced.
        seed: of bodies, lesions, noise and UIDs.
        patients: number of patients, at least 1.
        slices: axial slices in each series, at least 1, around the centre of its region.
        workers: processes; default: one per available core. 1 works in this process.
        progress: advanced with each finished block of slices.

    Returns:
        One entry per axial series, with its landmarks.

    Raises:
        DomainError: fewer than one patient or slice.
    """
    if patients < 1 or slices < 1:
        raise DomainError(f"the synthetic set needs at least 1 patient and 1 slice, got {patients} and {slices}")
    scans = [_PatientScan(out_dir, patient(number + 1), seed, slices) for number in range(patients)]
    blocks = [block for scan in scans for block in scan.blocks()]
    with pool(available_cores() if workers is None else workers) as executor:
        done = progress.track(in_order(_write, blocks, executor), total=len(blocks), what="synthetic exams")
        truths = tuple(truth for truth in done if truth is not None)
    write_truth(out_dir / "truth.json", truths)
    return truths


@dataclass(frozen=True)
class _PatientScan:
    """The scan of one patient: all series with their headers, folders and random generators."""

    out_dir: Path
    patient: Patient
    seed: int
    slices: int

    @property
    def focus(self) -> float:
        """Height of the scan's centre in the body's coordinates, mm."""
        return round(self.patient.focus * self.patient.plan.scale[2], 1)

    def acquisition(self, series: int) -> Acquisition:
        return self.patient.acquisitions[series]

    def identity(self, series: int) -> "SeriesIdentity":
        """Header values of a series; series number 1 is reserved for the localizer."""
        acquisition = self.acquisition(series)
        description = f"{self.patient.region.title()} {acquisition.thickness:g} mm {acquisition.kernel}"
        return SeriesIdentity(
            self.patient, self.seed, series + 2, description, acquisition.kernel, acquisition.thickness
        )

    def folder(self, series: int) -> Path:
        acquisition = self.acquisition(series)
        return self.out_dir / self.patient.patient_id / f"{series + 2:02d}_{acquisition.kernel}"

    def heights(self, series: int) -> tuple[float, ...]:
        return self.acquisition(series).heights(self.focus, self.slices)

    def rng(self, *parts: str | int) -> np.random.Generator:
        """Random generator for one purpose, seeded by the set's seed, the patient and `parts` only."""
        return rng_from("ctsr demo", self.seed, self.patient.number, *parts)

    def blocks(self) -> Iterator["_Block"]:
        """Units of work of a few slices each; the localizer is one of them."""
        if self.patient.localizer:
            yield _Block(self, None, ())
        for series in range(len(self.patient.acquisitions)):
            for start in range(0, self.slices, _BLOCK):
                yield _Block(self, series, tuple(range(start, min(start + _BLOCK, self.slices))))

    def truth(self, series: int) -> ExamTruth:
        """Ground truth of a series."""
        acquisition, scanner = self.acquisition(series), self.patient.scanner
        body, inserts = _body(self)
        return ExamTruth(
            patient_id=self.patient.patient_id,
            path=self.folder(series),
            series_uid=self.identity(series).series_uid,
            spacing=(acquisition.step, acquisition.spacing, acquisition.spacing),
            kernel=acquisition.kernel,
            padding_hu=float(scanner.padding + scanner.rescale_intercept),
            landmarks=find_landmarks(self.patient, acquisition, self.heights(series), (*body.implants, *inserts)),
        )


@dataclass(frozen=True)
class _Block:
    """Some slices of one series, or the localizer if `series` is None."""

    scan: _PatientScan
    series: int | None
    indices: tuple[int, ...]


@lru_cache(maxsize=2)
def _body(scan: _PatientScan) -> tuple[Body, tuple[Insert, ...]]:
    """The body and its inserts; cached, because growing its vessel trees takes half a second."""
    body = Body(scan.patient.plan, int(scan.rng("body").integers(2**62)))
    heights = scan.heights(0)
    return body, place_inserts(body, scan.patient, heights[0], heights[-1], scan.rng("inserts"))


def _write(block: _Block) -> ExamTruth | None:
    """Render, acquire and write the images of a block; the first block of a series returns its truth."""
    if block.series is None:
        _write_localizer(block.scan)
        return None
    for index in block.indices:
        _write_slice(block.scan, block.series, index)
    return block.scan.truth(block.series) if 0 in block.indices else None


def _write_slice(scan: _PatientScan, series: int, index: int) -> None:
    """Write one axial image; instance 1 is the most cranial."""
    acquisition, scanner, identity = scan.acquisition(series), scan.patient.scanner, scan.identity(series)
    grid, z = acquisition.grid(), scan.heights(series)[index]
    hu = acquire(
        _slab(scan, grid, z, acquisition.thickness),
        scanner,
        KERNELS[acquisition.kernel],
        spacing=acquisition.spacing,
        thickness=acquisition.thickness,
        rng=scan.rng("noise", series, index),
    )
    x0, y0, z0 = scan.patient.isocentre
    instance = scan.slices - index
    placement = Placement((x0 + grid.left, y0 + grid.top, z0 + z), acquisition.spacing)
    dataset = ct_dataset(identity, placement, instance, store(hu, scanner))
    _save(dataset, scan.folder(series) / f"{instance:04d}.dcm")


def _save(dataset: Dataset, path: Path) -> None:
    with atomic_path(path, durable=False) as part:
        dataset.save_as(part, enforce_file_format=True)


def _slab(scan: _PatientScan, grid: PixelGrid, z: float, thickness: float) -> Image:
    """The mean of thin planes through the thickness of a slice."""
    body, inserts = _body(scan)
    count = max(1, round(thickness / _SLAB_STEP))
    planes = [z + ((k + 0.5) / count - 0.5) * thickness for k in range(count)]
    total = body.render(grid, planes[0], inserts)
    for height in planes[1:]:
        total += body.render(grid, height, inserts)
    return total / np.float32(count)


def _write_localizer(scan: _PatientScan) -> None:
    """Write a coronal projection: the mean over the body's depth at each height, like a scout view."""
    body, _ = _body(scan)
    half = (_SCOUT_MATRIX - 1) / 2 * _SCOUT_SPACING
    grid = PixelGrid(-half, -half, _SCOUT_SPACING, _SCOUT_MATRIX)
    rows = [body.render(grid, half - 40 - row * _SCOUT_SPACING).mean(axis=0) for row in range(_SCOUT_MATRIX)]
    scanner = scan.patient.scanner
    summed = (np.stack(rows) + 1000) * 2 - 1000
    x0, y0, z0 = scan.patient.isocentre
    identity = SeriesIdentity(scan.patient, scan.seed, 1, "Localizer", "LOCALIZER", 1.0)
    placement = Placement(
        (x0 - half, y0, z0 + half - 40), _SCOUT_SPACING, (1, 0, 0, 0, 0, -1), ("ORIGINAL", "PRIMARY", "LOCALIZER")
    )
    stored = scanner.to_stored(summed)
    path = scan.out_dir / scan.patient.patient_id / "01_localizer" / "0001.dcm"
    _save(ct_dataset(identity, placement, 1, stored), path)


_DATE, _TIME = "20240115", "101500"
_AXIAL = ("ORIGINAL", "PRIMARY", "AXIAL")


@dataclass(frozen=True)
class SeriesIdentity:
    """A series of one patient: the header values common to its images."""

    patient: Patient
    seed: int
    number: int
    description: str
    kernel: str
    thickness: float
    """mm."""

    def uid(self, *parts: str) -> str:
        """A UID derived from the seed, the patient and `parts`."""
        return derived_uid("ctsr demo", str(self.seed), self.patient.patient_id, *parts)

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.uid("series", str(self.number))


@dataclass(frozen=True)
class Placement:
    """Position of one image: ImagePositionPatient, ImageOrientationPatient and PixelSpacing."""

    position: Vector
    spacing: float
    orientation: Orientation = (1, 0, 0, 0, 1, 0)
    image_type: tuple[str, ...] = _AXIAL


def ct_dataset(
    identity: SeriesIdentity,
    placement: Placement,
    instance: int,
    stored: Stored,
) -> Dataset:
    """A complete CT image, ready for `Dataset.save_as(enforce_file_format=True)`."""
    dataset = Dataset()
    _add_patient_and_study(dataset, identity)
    _add_series(dataset, identity)
    _add_image(dataset, identity, placement, instance)
    _add_pixels(dataset, identity, stored)
    wanted = identity.patient.scanner.transfer_syntax
    dataset.file_meta = file_meta(dataset, wanted if wanted == ImplicitVRLittleEndian else ExplicitVRLittleEndian)
    if wanted.is_compressed:
        dataset.compress(wanted, generate_instance_uid=False)
    return dataset


def _add_patient_and_study(dataset: Dataset, identity: SeriesIdentity) -> None:
    patient = identity.patient
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = f"Synthetic^{patient.patient_id}"
    dataset.PatientID = patient.patient_id
    dataset.PatientBirthDate = f"{int(_DATE[:4]) - patient.age}0101"
    dataset.PatientSex = patient.sex
    dataset.PatientAge = f"{patient.age:03d}Y"
    dataset.PatientSize = decimal_string(patient.size)
    dataset.PatientWeight = decimal_string(patient.weight)
    dataset.PatientComments = "Computed phantom: nobody was scanned"
    dataset.StudyInstanceUID = identity.uid("study")
    dataset.StudyID = f"{patient.number}"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = _DATE
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = _TIME
    dataset.StudyDescription = "ctsr synthetic exam"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""


def _add_series(dataset: Dataset, identity: SeriesIdentity) -> None:
    scanner = identity.patient.scanner
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = identity.series_uid
    dataset.SeriesNumber = identity.number
    dataset.SeriesDescription = identity.description
    dataset.BodyPartExamined = identity.patient.region
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = identity.uid("frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "ctsr synthetic"
    dataset.ManufacturerModelName = scanner.model
    dataset.InstitutionName = "ctsr demo"
    dataset.SoftwareVersions = IMPLEMENTATION_VERSION_NAME
    dataset.KVP = decimal_string(scanner.kvp)
    dataset.XRayTubeCurrent = scanner.tube_current
    dataset.ExposureTime = 500
    dataset.Exposure = scanner.tube_current // 2
    dataset.ConvolutionKernel = identity.kernel
    dataset.GantryDetectorTilt = decimal_string(0)
    dataset.RotationDirection = "CW"


def _add_image(dataset: Dataset, identity: SeriesIdentity, placement: Placement, instance: int) -> None:
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = identity.uid("image", str(identity.number), str(instance))
    dataset.ImageType = list(placement.image_type)
    dataset.AcquisitionNumber = identity.number
    dataset.InstanceNumber = instance
    dataset.ImagePositionPatient = [decimal_string(value) for value in placement.position]
    dataset.ImageOrientationPatient = [decimal_string(value) for value in placement.orientation]
    dataset.PixelSpacing = [decimal_string(placement.spacing)] * 2
    dataset.SliceThickness = decimal_string(identity.thickness)
    if placement.image_type == _AXIAL:
        dataset.SliceLocation = decimal_string(placement.position[2])


def _add_pixels(dataset: Dataset, identity: SeriesIdentity, stored: Stored) -> None:
    scanner = identity.patient.scanner
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = scanner.bits_stored
    dataset.HighBit = scanner.bits_stored - 1
    dataset.PixelRepresentation = int(scanner.signed)
    if scanner.padding_tag:
        dataset.add_new("PixelPaddingValue", "SS" if scanner.signed else "US", scanner.padding)
    dataset.RescaleIntercept = decimal_string(scanner.rescale_intercept)
    dataset.RescaleSlope = decimal_string(1)
    if "LOCALIZER" not in dataset.ImageType:  # sums along rays are no Hounsfield units
        dataset.RescaleType = "HU"
    chest = identity.patient.region == "CHEST"
    dataset.WindowCenter, dataset.WindowWidth = decimal_string(40 if chest else 60), decimal_string(400)
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()


FIELD_OF_VIEW = 360.0
"""mm; holds the body and some of the table."""
THICKNESS = 2.5
"""mm, and the distance between slices."""
FEWEST_PIXELS = 32


def example_volume(slices: int = 3, size: int = 256, *, seed: int = 0) -> Volume:
    """Make a synthetic chest: organs, vessels, ribs and vertebrae, with the blur and the noise of a scanner.

    Args:
        slices: at least 1, 2.5 mm thick and apart, around the heart.
        size: rows and columns, at least 32; the field of view is 360 mm.
        seed: the same seed gives the same volume.

    Returns:
        HU, ``(slices, size, size)``, float32; spacing ``(2.5, 360/size, 360/size)`` mm.

    Raises:
        DomainError: no slice, or fewer pixels.

    Examples:
        >>> volume = ctsr.example_volume(slices=3, size=256)
        >>> volume.hu.shape, volume.grid.spacing
        ((3, 256, 256), (2.5, 1.40625, 1.40625))
    """
    if slices < 1 or size < FEWEST_PIXELS:
        raise DomainError(f"`slices` must be at least 1 and `size` at least {FEWEST_PIXELS}, got {slices} and {size}")
    person = patient(1)
    acquisition = Acquisition("STANDARD", FIELD_OF_VIEW / size, size, THICKNESS, THICKNESS)
    pixels = acquisition.grid()
    body = _example_body(seed)
    heights = acquisition.heights(person.focus, slices)
    hu = np.empty((slices, size, size), np.float32)
    for index, z in enumerate(heights):
        hu[index] = acquire(
            body.render(pixels, z),
            person.scanner,
            KERNELS[acquisition.kernel],
            spacing=acquisition.spacing,
            thickness=THICKNESS,
            rng=rng_from("example volume", seed, index),
        )
    grid = Grid(
        shape=hu.shape,
        spacing=(THICKNESS, acquisition.spacing, acquisition.spacing),
        origin=(pixels.left, pixels.top, heights[0]),
        directions=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    )
    return Volume(np.clip(np.rint(hu), -1024, 3071).astype(np.float32), grid)


@lru_cache(maxsize=1)
def _example_body(seed: int) -> Body:
    """The body; cached, because growing its vessel trees takes half a second."""
    return Body(patient(1).plan, seed)
