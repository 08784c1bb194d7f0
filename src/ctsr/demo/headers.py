"""The DICOM objects of the synthetic set: classic CT images that say plainly that nobody was scanned."""

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ctsr.demo.patients import Patient
from ctsr.demo.scanner import Stored
from ctsr.dicom.encode import IMPLEMENTATION_VERSION_NAME, decimal_string, file_meta
from ctsr.hashing import derived_uid
from ctsr.volume import Orientation, Vector

__all__ = ["Placement", "SeriesIdentity", "ct_dataset"]

_DATE, _TIME = "20240115", "101500"
_AXIAL = ("ORIGINAL", "PRIMARY", "AXIAL")


@dataclass(frozen=True)
class SeriesIdentity:
    """A series of one patient: what its header repeats in every image."""

    patient: Patient
    seed: int
    number: int
    description: str
    kernel: str
    thickness: float
    """mm."""

    def uid(self, *parts: str) -> str:
        """A UID of this patient's, the same for the same seed."""
        return derived_uid("ctsr demo", str(self.seed), self.patient.patient_id, *parts)

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.uid("series", str(self.number))


@dataclass(frozen=True)
class Placement:
    """Where one image lies: DICOM's ImagePositionPatient, ImageOrientationPatient and PixelSpacing."""

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
    """A whole CT image, ready to write with `Dataset.save_as(enforce_file_format=True)`."""
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
