"""A CT slice derived from another: new pixels and geometry under the source's patient, study and frame of reference."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import VR, format_number_as_ds

from ctsr import __version__
from ctsr.dicom.element import MALFORMED
from ctsr.dicom.encode import element_bytes, file_bytes
from ctsr.dicom.stored import Stored, to_stored
from ctsr.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, derived_uid
from ctsr.errors import ReadError
from ctsr.files import write_atomically
from ctsr.volume import PaddingMask, Plane, VoxelsHU

__all__ = ["SPATIAL_RESAMPLING", "Code", "Derivation", "derive_slice", "save_slice"]

MAX_SERIES_DESCRIPTION = 64
MAX_DERIVATION_DESCRIPTION = 1024
SERIES_NUMBER_STEP = 1000
MAX_IS = 2**31 - 1


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
    model_name: str = "ctsr"
    """ManufacturerModelName of the contributing equipment: the program, or the model and its hash."""
    code: Code = SPATIAL_RESAMPLING


# What describes the source's pixels and would be false of the result: kept out of it.
STALE = frozenset(
    {
        "BluePaletteColorLookupTableData", "BluePaletteColorLookupTableDescriptor", "ContentDate", "ContentTime",
        "DataSetTrailingPadding", "DigitalSignaturesSequence", "GreenPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableDescriptor", "IconImageSequence", "InstanceCreationDate", "InstanceCreationTime",
        "InstanceCreatorUID", "LargestImagePixelValue", "LargestPixelValueInSeries", "MACParametersSequence",
        "ModalityLUTSequence", "NumberOfFrames", "PixelAspectRatio", "PixelPaddingRangeLimit", "PixelPaddingValue",
        "PlanarConfiguration", "RealWorldValueMappingSequence", "RedPaletteColorLookupTableData",
        "RedPaletteColorLookupTableDescriptor", "SeriesDate", "SeriesTime", "SmallestImagePixelValue",
        "SmallestPixelValueInSeries", "VOILUTSequence",
    }
)  # fmt: skip
STALE_TAGS = frozenset(BaseTag(tag_for_keyword(keyword) or 0) for keyword in STALE)
PIXEL_GROUP = 0x7FE00000
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
) -> Dataset:
    """A classic CT slice with new pixels; `source` is not changed.

    Dates of series and content are left out rather than set to now: the same source and settings give the same file.

    Args:
        source: header of a classic slice, or of a frame from `ctsr.dicom.classic.classic_frame`.
        hu: ``(rows, columns)``, HU; stored rounded to whole HU, or coarser where 16 bits ask for it.
        plane: where the new pixels lie; its shape is that of `hu`.
        derivation: what was done, in words.
        padding: True where there is nothing; PixelPaddingValue then says so.
        instance_number: replaces the source's where given.
        frame: the frame of the source object, from 0, if it has several.

    Raises:
        ReadError: the source's header lacks what identifies it, or holds it in a form that cannot be read.
    """
    try:
        derived = _public(source, _stays)
        _identify(derived, source, derivation, frame)
        _explain(derived, source, derivation, frame)
    except MALFORMED as error:
        raise ReadError(f"the header cannot be carried over to a derived slice: {error}") from error
    _place(derived, plane)
    _fill(derived, to_stored(hu, padding))
    if instance_number is not None:
        derived.add_new("InstanceNumber", VR.IS, instance_number)
    derived.file_meta = _file_meta(derived)
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
    return tag < PIXEL_GROUP and tag not in STALE_TAGS and tag.group & 0xFF00 not in OVERLAYS_AND_CURVES


def _public(dataset: Dataset, stays: Callable[[BaseTag], bool] = lambda _: True) -> Dataset:
    """A copy without private elements at any depth; sequences are rebuilt, so that nothing is shared."""
    kept = {element.tag: element for element in dataset.elements() if not element.tag.is_private and stays(element.tag)}
    public = Dataset(kept)
    public.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    for tag in kept:
        if _is_sequence(public, tag):
            public.add_new(tag, VR.SQ, Sequence([_public(item) for item in public[tag].value]))
    return public


def _is_sequence(dataset: Dataset, tag: BaseTag) -> bool:
    # An element read from implicit VR has none of its own.
    vr = dataset.get_item(tag).VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else VR.UN)
    if vr != VR.SQ:
        return False
    try:
        return bool(dataset[tag].value)
    except MALFORMED:
        return False  # left as it was read: raw bytes can be written again


def _identify(derived: Dataset, source: Dataset, derivation: Derivation, frame: int | None) -> None:
    """New instance and series, told apart from the source's wherever people and archives look."""
    source_uid = str(source.SOPInstanceUID)
    derived.add_new("SOPClassUID", VR.UI, CTImageStorage)
    derived.add_new("SOPInstanceUID", VR.UI, derived_uid(source_uid, str(frame), derivation.settings))
    derived.add_new("SeriesInstanceUID", VR.UI, derivation.series_uid)
    # Further values are the maker's own in a classic slice; in an enhanced object they mean something else.
    own = _values(source, "ImageType")[3:] if frame is None else []
    derived.add_new("ImageType", VR.CS, ["DERIVED", "SECONDARY", "AXIAL", *own])
    number = _values(source, "SeriesNumber")
    if number and number[0].isdecimal() and int(number[0]) + SERIES_NUMBER_STEP <= MAX_IS:
        derived.add_new("SeriesNumber", VR.IS, int(number[0]) + SERIES_NUMBER_STEP)
    words = " ".join(_values(source, "SeriesDescription"))[: MAX_SERIES_DESCRIPTION - len(derivation.label) - 1]
    derived.add_new("SeriesDescription", VR.LO, f"{words} {derivation.label}".strip())


def _explain(derived: Dataset, source: Dataset, derivation: Derivation, frame: int | None) -> None:
    """How it was made, of what, and by which program."""
    history = [*_values(source, "DerivationDescription"), derivation.description]
    derived.add_new("DerivationDescription", VR.ST, "; ".join(history)[-MAX_DERIVATION_DESCRIPTION:])
    _append(derived, "DerivationCodeSequence", derivation.code.item())
    origin = Dataset()
    origin.ReferencedSOPClassUID = source.get("SOPClassUID", CTImageStorage)
    origin.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if frame is not None:
        origin.ReferencedFrameNumber = frame + 1
    origin.PurposeOfReferenceCodeSequence = Sequence([SOURCE_IMAGE.item()])
    derived.add_new("SourceImageSequence", VR.SQ, Sequence([origin]))
    program = Dataset()
    program.PurposeOfReferenceCodeSequence = Sequence([MODIFYING_EQUIPMENT.item()])
    program.Manufacturer = "ctsr"
    program.ManufacturerModelName = derivation.model_name
    program.SoftwareVersions = __version__
    program.ContributionDescription = derivation.description
    _append(derived, "ContributingEquipmentSequence", program)


def _place(derived: Dataset, plane: Plane) -> None:
    rows, columns = plane.shape
    derived.add_new("Rows", VR.US, rows)
    derived.add_new("Columns", VR.US, columns)
    derived.add_new("PixelSpacing", VR.DS, [_ds(mm) for mm in plane.spacing])
    derived.add_new("ImagePositionPatient", VR.DS, [_ds(mm) for mm in plane.origin])


def _fill(derived: Dataset, stored: Stored) -> None:
    derived.add_new("SamplesPerPixel", VR.US, 1)
    derived.add_new("PhotometricInterpretation", VR.CS, "MONOCHROME2")
    derived.add_new("BitsAllocated", VR.US, 16)
    derived.add_new("BitsStored", VR.US, 16)
    derived.add_new("HighBit", VR.US, 15)
    derived.add_new("PixelRepresentation", VR.US, 1)
    derived.add_new("RescaleSlope", VR.DS, str(stored.slope))
    derived.add_new("RescaleIntercept", VR.DS, str(stored.intercept))
    derived.add_new("RescaleType", VR.LO, "HU")
    if stored.padding is not None:
        derived.add_new("PixelPaddingValue", VR.SS, stored.padding)
    content = stored.values.astype("<i2", copy=False).tobytes()
    derived.add_new("PixelData", VR.OW, content)


def _file_meta(derived: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = derived.SOPClassUID
    meta.MediaStorageSOPInstanceUID = derived.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _append(derived: Dataset, keyword: str, item: Dataset) -> None:
    """Put an item behind those the source has already: what was done before remains true."""
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


def _ds(number: float) -> str:
    """A decimal string of at most 16 characters, as many digits as those hold."""
    return format_number_as_ds(number + 0.0)
