"""A CT slice derived from another: new pixels and geometry under the source's patient, study and frame of reference."""

import math
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import VR

from ctsr import __version__
from ctsr.dicom import MALFORMED, read_header, reading
from ctsr.dicom.attributes import STALE
from ctsr.dicom.encode import (
    StoredPixels,
    WrittenIdentity,
    binary,
    decimal_string,
    element_bytes,
    file_bytes,
    file_meta,
    is_orientation,
    put,
    settled,
    text,
    to_stored,
)
from ctsr.errors import ReadError, SeriesError
from ctsr.files import write_atomically
from ctsr.hashing import derived_uid
from ctsr.series import PROGRAM
from ctsr.volume import PaddingMask, Plane, VoxelsHU, orientation_of

MAX_SERIES_DESCRIPTION = 64
MAX_DERIVATION_DESCRIPTION = 1024
SERIES_NUMBER_STEP = 1000
OTHER_STEP = 0.01
"""Fraction of a step by which SpacingBetweenSlices may differ from it."""
MAX_IS = 2**31 - 1
NOT_CARRIED_OVER = "the header cannot be carried over to a derived slice: "


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme, meaning."""

    value: str
    scheme: str
    meaning: str

    def item(self) -> Dataset:
        """The item of a code sequence that says it."""
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = self.value, self.scheme, self.meaning
        return item


SPATIAL_RESAMPLING = Code("113085", "DCM", "Spatial resampling")
SOURCE_IMAGE = Code("121322", "DCM", "Source Image for Image Processing Operation")
MODIFYING_EQUIPMENT = Code("109103", "DCM", "Modifying Equipment")


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """What is done to the slices of one series, in the words their headers will carry."""

    description: str
    """A sentence for DerivationDescription; put behind what the source says of its own derivation."""
    label: str
    """A few words at the end of SeriesDescription."""
    settings: str
    """Everything the result depends on besides the source: with the source's UIDs it makes the new ones."""
    series_uid: str
    """The new SeriesInstanceUID."""
    model_name: str = PROGRAM
    """ManufacturerModelName of the contributing equipment: the program, or the model and its hash."""
    code: Code = SPATIAL_RESAMPLING


@dataclass(frozen=True)
class ThinSlice:
    """What a slice that lies between those of its source says of itself."""

    thickness: float
    """SliceThickness, mm."""
    spacing: float
    """SpacingBetweenSlices, mm."""
    location: float
    """SliceLocation: mm along the slices' normal."""
    sources: tuple[tuple[str, int | None], ...]
    """SOPInstanceUID and frame of each image that it was made of."""


STALE_TAGS = frozenset(tag_for_keyword(keyword) or 0 for keyword in STALE)
PIXEL_GROUP = 0x7FE00000
PRIVATE = 0x10000
"""The lowest bit of a private element's group."""
OVERLAYS_AND_CURVES = (0x5000, 0x6000)
"""Groups drawn for the source's matrix, each repeated up to 50xx and 60xx."""


def derive_slice(
    source: Dataset,
    hu: VoxelsHU,
    plane: Plane,
    derivation: Derivation,
    *,
    padding: PaddingMask | None = None,
    instance_number: int | None = None,
    frame: int | None = None,
    slice_step: float | None = None,
    thin: ThinSlice | None = None,
) -> Dataset:
    """A classic CT slice with new pixels, which shares nothing with `source` or with other slices made of it.

    Dates of series and content are left out rather than set to now: the same source and settings give the same file.

    Args:
        source: header of a classic slice, or of a frame from `ctsr.dicom.encode.classic_frame`.
        hu: ``(rows, columns)``, HU; stored rounded to whole HU, or coarser where 16 bits ask for it.
        plane: where the new pixels lie, and which way round; its shape is that of `hu`.
        derivation: what was done, in words.
        padding: True where there is nothing; PixelPaddingValue then says so.
        instance_number: replaces the source's where given.
        frame: the frame of the source object, from 0, if it has several.
        thin: of a slice that lies between those of the source; `source` is then the header of the nearest.
        slice_step: mm between neighbouring slices, which takes the place of a SpacingBetweenSlices that says otherwise;
            without it one that is not positive is left out.

    Raises:
        ReadError: the source's header lacks what identifies it, or holds it in a form that cannot be read.
    """
    with reading(NOT_CARRIED_OVER):
        # Reading an element converts it in its data set: one header serves many slices, and all are to find it as read.
        source = source[:]
        derived, source_uid = _public(source, _stays), str(source.SOPInstanceUID)
    _identify(derived, source, source_uid, derivation, frame, place=None if thin is None else thin.location)
    _explain(derived, source, derivation, ((source_uid, frame),) if thin is None else thin.sources)
    _place(derived, source, plane)
    _mend_spacing(derived, source, slice_step)
    if thin is not None:
        _place_between(derived, thin)
    _fill(derived, to_stored(hu, padding))
    if instance_number is not None:
        put(derived, text("InstanceNumber", VR.IS, str(instance_number)))
    derived.file_meta = file_meta(derived)
    return derived


def save_slice(dataset: Dataset, path: Path) -> tuple[str, ...]:
    """Write a slice from `derive_slice`, whole or not at all; a file that is there is replaced.

    Does not wait for the disk: after a power cut a file may be empty, and its size tells.

    Returns:
        The names of elements that came from the source with values no writer accepts, and were left out.

    Raises:
        ReadError: it cannot be written even without those.
    """
    left_out: tuple[str, ...] = ()
    try:
        content = file_bytes(dataset, dataset.file_meta)
    except MALFORMED:
        odd = list(_unwritable(dataset))
        left_out = tuple(_name(dataset, tag) for tag in odd)
        for tag in odd:
            del dataset[tag]
        try:
            content = file_bytes(dataset, dataset.file_meta)
        except MALFORMED as error:
            raise ReadError(f"{path}: the source's header cannot be written again ({error})") from error
    write_atomically(path, content, durable=False)
    return left_out


def check_one_series(
    what: Path, written: Collection[WrittenIdentity], sources: Iterable[Path], *, series_uid: str
) -> None:
    """Make sure that slices can be told apart and are one series of one study in one frame of reference.

    Args:
        what: begins the message.
        written: what `ctsr.dicom.encode.verify_slice` read back, of all slices of a result.
        sources: files whose headers they were given. Slices name as many studies and frames of reference as those:
            some archives hold series that lie in several.
        series_uid: that they must have.

    Raises:
        SeriesError: they are not.
    """
    uids = {identity.sop_instance_uid for identity in written}
    numbers = {identity.instance_number for identity in written}
    if not len(uids) == len(numbers) == len(written):
        raise SeriesError(f"{what}: the slices written cannot be told apart; export the series again")
    if {identity.series_uid for identity in written} != {series_uid}:
        raise SeriesError(f"{what}: the slices written are not one series; report this, it is a fault of ctsr")
    for keyword, found in (
        ("StudyInstanceUID", {identity.study_uid for identity in written}),
        ("FrameOfReferenceUID", {identity.frame_of_reference_uid for identity in written}),
    ):
        # Few results ask for the second look, which reads every header again.
        if len(found) > 1 and len(found) > (there := len(_named(sources, keyword))):
            raise SeriesError(
                f"{what}: the slices written have {len(found)} values of {keyword}, those of the source {there}; "
                "report this, it is a fault of ctsr"
            )


def _named(sources: Iterable[Path], keyword: str) -> set[str]:
    """The values that files have of an element, empty for one that has none."""
    values: set[str] = set()
    for path in dict.fromkeys(sources):
        with path.open("rb") as file, reading():
            values.add(str(read_header(file).get(keyword, "")))
    return values


def _unwritable(dataset: Dataset) -> Iterator[BaseTag]:
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset converts its elements, which is what fails
        try:
            element_bytes(dataset, tag, dataset.get("SpecificCharacterSet"))
        except MALFORMED:
            yield tag


def _name(dataset: Dataset, tag: BaseTag) -> str:
    return keyword_for_tag(tag) or str(dataset.get_item(tag).tag)


def _stays(tag: BaseTag) -> bool:
    """Whether what an element says of the source is still true of a slice derived from it."""
    number = int(tag)  # pydicom's tags compare slowly
    return number < PIXEL_GROUP and number not in STALE_TAGS and (number >> 16) & 0xFF00 not in OVERLAYS_AND_CURVES


def _public(dataset: Dataset, stays: Callable[[BaseTag], bool] = lambda _: True) -> Dataset:
    """A copy without private elements at any depth that shares nothing that can be changed."""
    kept = {tag: element for tag, element in dataset.items() if not int(tag) & PRIVATE and stays(tag)}
    public = Dataset(kept)
    public.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    for tag, element in kept.items():
        if _is_sequence(public, element):
            public.add_new(tag, VR.SQ, Sequence([_public(item) for item in public[tag].value]))
        elif isinstance(element, DataElement):  # was converted when somebody read it, and has a value to be set
            public[tag] = deepcopy(element)
    return public


def _is_sequence(dataset: Dataset, element: DataElement | RawDataElement) -> bool:
    # An element read from implicit VR has none of its own.
    vr = element.VR or (dictionary_VR(element.tag) if dictionary_has_tag(element.tag) else VR.UN)
    if vr != VR.SQ:
        return False
    try:
        return bool(dataset[element.tag].value)
    except MALFORMED:
        return False  # left as it was read: raw bytes can be written again


def _identify(
    derived: Dataset,
    source: Dataset,
    source_uid: str,
    derivation: Derivation,
    frame: int | None,
    *,
    place: float | None = None,
) -> None:
    """Set the identifiers of the new instance and series, which differ from the source's wherever archives look."""
    # The new series too: a source may hold one instance UID in two geometries, which become two series.
    name = (source_uid, str(frame), derivation.series_uid, derivation.settings)
    if place is not None:  # several slices are nearest to one of the source
        name += (decimal_string(place),)
    put(
        derived,
        text("SOPClassUID", VR.UI, CTImageStorage),
        text("SOPInstanceUID", VR.UI, derived_uid(*name)),
        text("SeriesInstanceUID", VR.UI, derivation.series_uid),
    )
    if not _values(source, "StudyInstanceUID"):
        # No archive takes a slice without one. All that is made of one series shares it.
        series = _values(source, "SeriesInstanceUID") or [derivation.series_uid]
        put(derived, text("StudyInstanceUID", VR.UI, derived_uid("study of a series without one", *series)))
    # Further values are the maker's own in a classic slice; in an enhanced object they mean something else.
    own = _values(source, "ImageType")[3:] if frame is None else []
    put(derived, text("ImageType", VR.CS, "DERIVED", "SECONDARY", "AXIAL", *own))
    number = _values(source, "SeriesNumber")
    if number and number[0].isdecimal() and int(number[0]) + SERIES_NUMBER_STEP <= MAX_IS:
        put(derived, text("SeriesNumber", VR.IS, str(int(number[0]) + SERIES_NUMBER_STEP)))
    words = " ".join(_values(source, "SeriesDescription"))[: MAX_SERIES_DESCRIPTION - len(derivation.label) - 1]
    derived.add_new("SeriesDescription", VR.LO, f"{words} {derivation.label}".strip())


def _explain(
    derived: Dataset, source: Dataset, derivation: Derivation, origins: tuple[tuple[str, int | None], ...]
) -> None:
    """How it was made, of what, and by which program."""
    history = [*_values(source, "DerivationDescription"), derivation.description]
    derived.add_new("DerivationDescription", VR.ST, "; ".join(history)[-MAX_DERIVATION_DESCRIPTION:])
    _append(derived, "DerivationCodeSequence", _code_item(derivation.code))
    sop_class = next(iter(_values(source, "SOPClassUID")), CTImageStorage)
    # A reference by what is no UID would be an error, and no archive could follow it.
    if items := [_origin_item(sop_class, uid, frame) for uid, frame in origins if UID(uid).is_valid]:
        derived.add_new("SourceImageSequence", VR.SQ, Sequence(items))
    _append(derived, "ContributingEquipmentSequence", program_item(derivation))


def _origin_item(sop_class: str, uid: str, frame: int | None) -> Dataset:
    origin = Dataset()
    put(origin, text("ReferencedSOPClassUID", VR.UI, sop_class), text("ReferencedSOPInstanceUID", VR.UI, uid))
    if frame is not None:
        put(origin, text("ReferencedFrameNumber", VR.IS, str(frame + 1)))
    origin.add_new("PurposeOfReferenceCodeSequence", VR.SQ, Sequence([_code_item(SOURCE_IMAGE)]))
    return origin


def _code_item(code: Code) -> Dataset:
    return _public(_settled_code(code))


def program_item(derivation: Derivation) -> Dataset:
    """The program that made all slices of a series, an item of its own for each."""
    return _public(_settled_program(derivation))


@lru_cache(maxsize=8)
def _settled_code(code: Code) -> Dataset:
    """The same for every slice, and so encoded once."""
    return settled(code.item())


@lru_cache(maxsize=8)
def _settled_program(derivation: Derivation) -> Dataset:
    program = Dataset()
    program.PurposeOfReferenceCodeSequence = Sequence([MODIFYING_EQUIPMENT.item()])
    program.Manufacturer = PROGRAM
    program.ManufacturerModelName = derivation.model_name
    program.SoftwareVersions = __version__
    program.ContributionDescription = derivation.description
    return settled(program)


def _place(derived: Dataset, source: Dataset, plane: Plane) -> None:
    rows, columns = plane.shape
    orientation = orientation_of(plane)
    # As the source writes it where that is what the plane has. It is another one where the source lends its header to a
    # volume that lies another way round, or has cosines that are no unit vectors.
    given = _values(source, "ImageOrientationPatient")
    if not is_orientation(given, orientation):
        put(derived, text("ImageOrientationPatient", VR.DS, *map(decimal_string, orientation)))
        derived.pop("PatientOrientation", None)  # says the same in letters
    put(
        derived,
        _short("Rows", rows),
        _short("Columns", columns),
        text("PixelSpacing", VR.DS, *map(decimal_string, plane.spacing)),
        text("ImagePositionPatient", VR.DS, *map(decimal_string, plane.origin)),
    )


def _place_between(derived: Dataset, thin: ThinSlice) -> None:
    put(
        derived,
        text("SliceThickness", VR.DS, decimal_string(thin.thickness)),
        text("SpacingBetweenSlices", VR.DS, decimal_string(thin.spacing)),
        text("SliceLocation", VR.DS, decimal_string(thin.location)),
    )


def _mend_spacing(derived: Dataset, source: Dataset, slice_step: float | None) -> None:
    """Replace a SpacingBetweenSlices that is not true, or is negative, as some writers give it for tables that move in.

    DICOM forbids the latter in CT (PS3.3 C.7.6.2), and positions say the distance.
    """
    try:
        distance = float("".join(_values(source, "SpacingBetweenSlices")) or "nan")
    except ValueError:
        return  # written as it was read, or left out by `save_slice`
    if math.isnan(distance):
        return
    if slice_step is None:
        if distance <= 0:
            del derived["SpacingBetweenSlices"]
    elif abs(distance - slice_step) > OTHER_STEP * slice_step:
        put(derived, text("SpacingBetweenSlices", VR.DS, decimal_string(slice_step)))


def _fill(derived: Dataset, stored: StoredPixels) -> None:
    put(
        derived,
        _short("SamplesPerPixel", 1),
        text("PhotometricInterpretation", VR.CS, "MONOCHROME2"),
        _short("BitsAllocated", 16),
        _short("BitsStored", 16),
        _short("HighBit", 15),
        _short("PixelRepresentation", 1),
        text("RescaleSlope", VR.DS, str(stored.slope)),
        text("RescaleIntercept", VR.DS, str(stored.intercept)),
        text("RescaleType", VR.LO, "HU"),
        binary("PixelData", VR.OW, stored.values.astype("<i2", copy=False).tobytes()),
    )
    if stored.padding is not None:
        put(derived, binary("PixelPaddingValue", VR.SS, struct.pack("<h", stored.padding)))


def _short(keyword: str, number: int) -> RawDataElement:
    return binary(keyword, VR.US, struct.pack("<H", number))


def _append(derived: Dataset, keyword: str, item: Dataset) -> None:
    """Put an item behind those the source has already: what was done before remains true."""
    with reading(NOT_CARRIED_OVER):
        earlier: list[Dataset] = list(derived[keyword].value) if keyword in derived else []
    derived.add_new(keyword, VR.SQ, Sequence([*earlier, item]))


def _values(source: Dataset, keyword: str) -> list[str]:
    """An element's values as text; none where it is absent, empty or unreadable."""
    try:
        value: object = source.get(keyword)
    except MALFORMED:
        return []
    values = list(value) if isinstance(value, MultiValue) else [value]
    return [str(part) for part in values if part not in (None, "")]
