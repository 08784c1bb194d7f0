"""Variants of derived slices: de-identified, and as one enhanced file in place of many.

The table of attributes is that of `dicom-anonymizer` (edition 2024b). UIDs and the PatientID become keyed hashes: the
same key keeps slices, series and studies of a patient together, and nobody without it can find out whose they are.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Slices
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

from ctsr.dicom import MALFORMED
from ctsr.dicom.encode import file_meta
from ctsr.dicom.write import Code, Derivation, program_item
from ctsr.errors import ReadError, UsageError, boundary
from ctsr.files import atomic_path
from ctsr.hashing import derived_uid, digest
from ctsr.reporting import one_line, size

BASIC_PROFILE = Code("113100", "DCM", "Basic Application Confidentiality Profile")
METHOD = "DICOM PS3.15 Annex E Basic Profile"
Rule = Callable[[Dataset, tuple[int, int]], None]
DATES = (VR.DA, VR.DT, VR.TM)
KEPT_UIDS = frozenset({"SOPClassUID", "ReferencedSOPClassUID"})


class Anonymizer:
    """Takes from slices of `ctsr.dicom.write.derive_slice` what tells who the patient is.

    Args:
        key: a secret; empty is refused.

    Raises:
        UsageError: `dicom-anonymizer` is not installed.
    """

    def __init__(self, key: str) -> None:
        if not key:
            raise UsageError("an empty key hides nothing")
        self._key = key
        self._rules = _rules()

    def uid(self, uid: str) -> str:
        """Replace a UID; the same one by the same."""
        return derived_uid("anonymized", self._key, uid)

    def patient(self, patient_id: str) -> str:
        """Replace a patient's ID or name."""
        return f"ANON-{digest('patient', self._key, patient_id, size=6).hex()}"

    def __call__(self, derived: Dataset, derivation: Derivation) -> None:
        """Change a slice in place; what ctsr itself says of its making stays.

        Args:
            derived: from `derive_slice`; its file meta is renewed.
            derivation: what it was derived with.
        """
        patient = self.patient(f"{derived.get('PatientID', '')}")
        self._clean(derived)
        derived.PatientID = derived.PatientName = patient
        derived.SeriesDescription = derivation.label
        derived.DerivationDescription = derivation.description
        derived.ContributingEquipmentSequence = Sequence([program_item(derivation)])
        derived.PatientIdentityRemoved = "YES"
        derived.DeidentificationMethod = METHOD
        derived.DeidentificationMethodCodeSequence = Sequence([BASIC_PROFILE.item()])
        derived.LongitudinalTemporalInformationModified = "REMOVED"
        derived.file_meta = file_meta(derived)

    def _clean(self, dataset: Dataset) -> None:
        for tag in list(dataset.keys()):
            self._apply(dataset, tag, self._rules.get((tag.group, tag.element)))
            if tag in dataset and dataset[tag].VR == VR.SQ:
                for item in dataset[tag].value:
                    self._clean(item)

    def _apply(self, dataset: Dataset, tag: BaseTag, rule: Rule | None) -> None:
        if rule is None:
            return
        element, action = dataset[tag], rule.__name__
        is_sequence = element.VR == VR.SQ
        if element.VR == VR.UI and element.keyword not in KEPT_UIDS:
            uids = element.value if isinstance(element.value, list) else [element.value]
            element.value = [self.uid(str(uid)) for uid in cast("list[object]", uids) if uid]
        elif is_sequence and action.endswith("replace_UID"):
            return  # references to other images: their items are cleaned
        elif action == "delete" or (is_sequence and action.startswith("delete")):
            del dataset[tag]
        elif is_sequence:
            element.value = Sequence()
        elif element.VR in DATES:
            element.clear()
        else:
            _by_library(dataset, tag, rule)


def _by_library(dataset: Dataset, tag: BaseTag, rule: Rule) -> None:
    try:
        rule(dataset, (tag.group, tag.element))
    except NotImplementedError:  # a VR that it has no replacement for
        del dataset[tag]


@cache
def _rules() -> Mapping[tuple[int, ...], Rule]:
    try:
        library: Any = importlib.import_module("dicomanonymizer.simpledicomanonymizer")
    except ImportError as error:
        raise UsageError(
            "`anonymize` needs dicom-anonymizer: pip install '.[anonymize]' in the source folder of ctsr"
        ) from error
    return library.initialize_actions_2024b()


LARGEST_BYTES = 2**32 - 2
"""Most bytes of uncompressed pixels, whose element has a length of 32 bits."""
MEMORY_TIMES = 3
"""Times the pixels of a result that are held while it is converted."""
MM_WITHIN = 1e-6
CREATION = ("InstanceCreationDate", "InstanceCreationTime")
MOMENTS = ("Content", "Acquisition", "Series", "Study")
"""What has a date and a time; an object must have those of its content, which highdicom else takes from the clock."""
LEAVE_OUT = "leave out `enhanced`"


def check_installed(*, enhanced: bool, anonymize: bool) -> None:
    """Say which package these kinds of result lack, before anything is computed.

    Raises:
        UsageError: highdicom or dicom-anonymizer is not installed.
    """
    if anonymize:
        _rules()
    if enhanced and find_spec("highdicom") is None:
        raise UsageError("`enhanced` needs highdicom: pip install '.[enhanced]' in the source folder of ctsr")


def size_problem(num_bytes: int, memory: float) -> str:
    """Why so many bytes of pixels cannot be one file; empty where they can.

    Args:
        num_bytes: before compression.
        memory: bytes that may be taken.
    """
    if num_bytes > LARGEST_BYTES:
        return f"{size(num_bytes)} of pixels are too large for one DICOM file; {LEAVE_OUT}"
    if MEMORY_TIMES * num_bytes > memory:
        needed, there = size(MEMORY_TIMES * num_bytes), size(int(memory))
        return f"one file takes {needed} of memory, and {there} may be taken; {LEAVE_OUT}, or raise `max_memory`"
    return ""


def enhanced_series_uid(series_uid: str) -> str:
    """The SeriesInstanceUID of the conversion of a series: always the same one."""
    return derived_uid(series_uid, "enhanced")


def save_enhanced(paths: Slices[Path], final: Path, *, source_series_uid: str) -> list[str]:
    """Convert classic slices into one object, read that again, and give it its name.

    Pixels keep their transfer syntax and their bits. The slices are what the object says it was converted from.

    Args:
        paths: slices of one series from `ctsr.dicom.write.save_slice`, with signed 16-bit pixels.
        final: the file.
        source_series_uid: SeriesInstanceUID of what the slices were derived from, as their references know it.

    Returns:
        A line for each thing that is unusual about it.

    Raises:
        ReadError: the slices do not make one object, or it says something else than they do.
    """
    remarks: list[str] = []
    with boundary(str(final), LEAVE_OUT):
        slices = [dcmread(path) for path in paths]
        remarks += _harmonize(slices)
        converted = _converted(slices, source_series_uid)
    with atomic_path(final) as part:
        with boundary(str(final), LEAVE_OUT):
            converted.save_as(part, enforce_file_format=True)
        del converted
        _verify(part, slices, final)
    return remarks


def _harmonize(slices: Slices[Dataset]) -> list[str]:
    """Give all slices what an object has only once; returns a line where that changes what they say."""
    paddings = {int(ds.PixelPaddingValue) for ds in slices if "PixelPaddingValue" in ds}
    if len(paddings) > 1:
        raise ReadError("its slices have several padding values, and an enhanced object has one")
    for ds in slices:
        if paddings and "PixelPaddingValue" not in ds:
            (value,) = paddings
            if (ds.pixel_array == value).any():
                raise ReadError(f"a slice without padding holds {value}, the padding value of others")
            ds.add_new("PixelPaddingValue", VR.SS, value)
    frames = {str(ds.get("FrameOfReferenceUID", "")) for ds in slices}
    if len(frames) == 1:
        return []
    own = derived_uid("frame of reference", str(slices[0].SeriesInstanceUID))
    for ds in slices:
        ds.FrameOfReferenceUID = own
    return [f"its slices name {len(frames)} frames of reference: the enhanced object has one of its own"]


def _converted(slices: Slices[Dataset], source_series_uid: str) -> Dataset:
    # Loaded here: it takes longer than most results need it.
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    first = slices[0]
    series_uid = enhanced_series_uid(str(first.SeriesInstanceUID))
    number = first.get("SeriesNumber")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a scanner's header lacks, which a classic slice may lack
        made: Dataset = LegacyConvertedEnhancedCTImage(
            slices,
            series_instance_uid=series_uid,
            series_number=1 if number is None else int(number),
            sop_instance_uid=derived_uid(series_uid, "instance"),
            instance_number=1,
            transfer_syntax_uid=None,  # that of the slices
        )
    # The same slices give the same file.
    for keyword in CREATION:
        if keyword in made:
            del made[keyword]
    dated = next((moment for moment in MOMENTS if first.get(f"{moment}Date")), None)
    if dated is not None:
        made.ContentDate = first[f"{dated}Date"].value
        made["ContentTime"] = DataElement("ContentTime", VR.TM, first.get(f"{dated}Time") or "000000")
    organization = derived_uid(series_uid, "dimensions")
    for item in (*made.get("DimensionOrganizationSequence", ()), *made.get("DimensionIndexSequence", ())):
        item.DimensionOrganizationUID = organization
    made.SeriesDescription = first.get("SeriesDescription")
    if evidence := _evidence(slices, source_series_uid):
        made.SourceImageEvidenceSequence = evidence
    made.file_meta = file_meta(made, first.file_meta.TransferSyntaxUID)
    return made


def _evidence(slices: Slices[Dataset], series_uid: str) -> Sequence:
    """Where the images are found that frames refer to (PS3.3 C.8.15.2, type 1C)."""
    references: dict[str, str] = {}
    for ds in slices:
        for item in ds.get("SourceImageSequence", ()):
            references[str(item.ReferencedSOPInstanceUID)] = str(item.ReferencedSOPClassUID)
    if not references or not series_uid:
        return Sequence()
    series, study = Dataset(), Dataset()
    images: list[Dataset] = []
    for uid, sop_class in references.items():
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = sop_class, uid
        images.append(image)
    series.ReferencedSOPSequence, series.SeriesInstanceUID = Sequence(images), series_uid
    study.ReferencedSeriesSequence, study.StudyInstanceUID = Sequence([series]), slices[0].StudyInstanceUID
    return Sequence([study])


def _verify(path: Path, slices: Slices[Dataset], final: Path) -> None:
    """Read an object with pydicom alone and compare each frame with the slice that it was converted from.

    Raises:
        ReadError: it cannot be read, or says something else.
    """
    by_uid = {str(ds.SOPInstanceUID): ds for ds in slices}
    try:
        made = dcmread(path)
        groups = list(made.PerFrameFunctionalGroupsSequence)
        differing = "its number of frames" if not len(groups) == int(made.NumberOfFrames) == len(slices) else ""
        for index, group in enumerate(groups):
            (origin,) = group.ConversionSourceAttributesSequence
            differing = differing or _difference(made, index, by_uid.pop(str(origin.ReferencedSOPInstanceUID)))
    except (*MALFORMED, KeyError) as error:
        raise ReadError(f"{final}: cannot be read back: {one_line(error)}; {LEAVE_OUT}") from error
    if differing:
        raise ReadError(f"{final}: read back, {differing} is not that of the slices; {LEAVE_OUT}")


def _difference(made: Dataset, index: int, ds: Dataset) -> str:
    """What a frame says otherwise than its slice; empty where it says the same."""
    groups = (made.SharedFunctionalGroupsSequence[0], made.PerFrameFunctionalGroupsSequence[index])

    def said(sequence: str, keyword: str) -> Any:
        (item,) = next(group[sequence].value for group in groups if sequence in group)
        return np.atleast_1d(np.array(item[keyword].value, np.float64))

    for name, sequence, keyword in (
        ("position", "PlanePositionSequence", "ImagePositionPatient"),
        ("orientation", "PlaneOrientationSequence", "ImageOrientationPatient"),
        ("pixel spacing", "PixelMeasuresSequence", "PixelSpacing"),
        ("slope", "PixelValueTransformationSequence", "RescaleSlope"),
        ("intercept", "PixelValueTransformationSequence", "RescaleIntercept"),
    ):
        expected = np.atleast_1d(np.array(ds[keyword].value, np.float64))
        if np.abs(said(sequence, keyword) - expected).max() > MM_WITHIN:
            return f"the {name} of frame {index + 1}"
    if made.get("PixelPaddingValue") != ds.get("PixelPaddingValue"):
        return "the padding value"
    if not np.array_equal(pixel_array(made, index=index, raw=True), ds.pixel_array):
        return f"frame {index + 1}"
    return ""
