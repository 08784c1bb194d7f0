import copy
import dataclasses
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ctsr.dicom.encode import IMPLEMENTATION_CLASS_UID, classic_frame, file_bytes
from ctsr.dicom.write import Derivation, derive_slice, save_slice
from ctsr.errors import ReadError
from ctsr.volume import Plane
from tests.made.ct import body, ct_slice, enhanced, save, slices
from tests.oracles import dciodvfy_errors

DERIVATION = Derivation(description="Resampled to 0.8 mm", label="[0.8 mm]", settings="test", series_uid="2.25.77")
PLANE = Plane((30, 32), (0.8, 0.8), (-99.95, -119.65, 30.0), ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
HU = np.linspace(-1000, 1500, 30 * 32).reshape(30, 32).astype(np.float32)


def derived(source: Dataset, tmp_path: Path, **keywords: object) -> Dataset:
    """The source as a file, derived, written, and read again."""
    header = dcmread(save(source, tmp_path / "source.dcm"), stop_before_pixels=True)
    save_slice(derive_slice(header, HU, PLANE, DERIVATION, **keywords), tmp_path / "new.dcm")  # pyright: ignore
    return dcmread(tmp_path / "new.dcm")


def test_pixels_come_back_as_the_hu_that_were_written(tmp_path: Path) -> None:
    new = derived(ct_slice(body()), tmp_path)
    assert np.array_equal(new.pixel_array * new.RescaleSlope + new.RescaleIntercept, np.rint(HU))
    assert (new.BitsAllocated, new.BitsStored, new.HighBit, new.PixelRepresentation) == (16, 16, 15, 1)
    assert new.RescaleType == "HU"


def test_geometry_is_exactly_the_plane(tmp_path: Path) -> None:
    new = derived(ct_slice(body()), tmp_path)
    assert (new.Rows, new.Columns) == (30, 32)
    assert [str(mm) for mm in new.PixelSpacing] == ["0.8", "0.8"]
    assert [float(mm) for mm in new.ImagePositionPatient] == [-99.95, -119.65, 30.0]
    assert [float(cosine) for cosine in new.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]


def test_numbers_that_need_many_digits_fit_into_sixteen_characters(tmp_path: Path) -> None:
    header = dcmread(save(ct_slice(body()), tmp_path / "s"), stop_before_pixels=True)
    plane = Plane((30, 32), (1 / 3, 2 / 3), (-123.456789012345678, 1e-7 / 3, -1234.5678901234), PLANE.directions)
    save_slice(derive_slice(header, HU, plane, DERIVATION), tmp_path / "n")
    new = dcmread(tmp_path / "n")
    for keyword, truth in (("PixelSpacing", plane.spacing), ("ImagePositionPatient", plane.origin)):
        assert max(len(str(number)) for number in new[keyword].value) <= 16
        assert [float(number) for number in new[keyword].value] == pytest.approx(truth, abs=1e-6)


def test_the_slice_is_told_apart_from_its_source_everywhere(tmp_path: Path) -> None:
    source = ct_slice(body(), ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"])
    new = derived(source, tmp_path)
    assert list(new.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 SPI"]
    assert new.SOPInstanceUID != source.SOPInstanceUID
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
    assert new.SeriesInstanceUID == "2.25.77"
    assert (new.SeriesNumber, new.SeriesDescription) == (1003, "CHEST [0.8 mm]")
    assert new.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert new.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_patient_study_and_frame_of_reference_are_kept(tmp_path: Path) -> None:
    source = ct_slice(body())
    new = derived(source, tmp_path)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "KVP"):
        assert new[keyword].value == source[keyword].value


@pytest.mark.parametrize("missing", [None, ""])
def test_a_source_without_a_study_gets_one_that_all_made_of_it_shares(tmp_path: Path, missing: str | None) -> None:
    first, second, other = ct_slice(body()), ct_slice(body()), ct_slice(body())
    second.SOPInstanceUID, other.SeriesInstanceUID = "1.2.3", "1.2.4"
    for source in (first, second, other):
        if missing is None:
            del source.StudyInstanceUID
        else:
            source.StudyInstanceUID = missing
    studies = [derived(source, tmp_path).StudyInstanceUID for source in (first, second, other)]
    assert studies[0].startswith("2.25.")
    assert studies[0] == studies[1] != studies[2]


def test_the_header_says_how_it_was_made_and_of_what(tmp_path: Path) -> None:
    source = ct_slice(body(), DerivationDescription="denoised")
    new = derived(source, tmp_path)
    assert new.DerivationDescription == "denoised; Resampled to 0.8 mm"
    assert [item.CodeValue for item in new.DerivationCodeSequence] == ["113085"]
    (origin,) = new.SourceImageSequence
    assert origin.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert origin.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    program = new.ContributingEquipmentSequence[-1]
    assert program.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
    assert program.ManufacturerModelName == "ctsr"


def test_what_spoke_of_the_old_pixels_is_gone(tmp_path: Path) -> None:
    icon = ct_slice(body(8))
    source = ct_slice(body(), PixelAspectRatio=[1, 1], IconImageSequence=Sequence([icon]), PixelPaddingValue=0)
    source.add_new("SmallestImagePixelValue", "US", 3)
    source.add_new("LargestImagePixelValue", "US", 4000)
    source.add_new((0x6000, 0x0010), "US", 40)
    source.add_new((0xFFFC, 0xFFFC), "OB", b"\0\0")
    source.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "secret")
    new = derived(source, tmp_path)
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelAspectRatio", "IconImageSequence"):
        assert keyword not in new
    assert "PixelPaddingValue" not in new
    assert "DataSetTrailingPadding" not in new
    assert not [tag for tag in new.keys() if tag.is_private or tag.group == 0x6000]  # noqa: SIM118


def test_what_the_source_was_one_of_and_where_it_is_kept_is_gone(tmp_path: Path) -> None:
    counts = {"ImagesInAcquisition": 2, "NumberOfSeriesRelatedInstances": 2, "NumberOfStudyRelatedInstances": 2}
    kept = {"RetrieveAETitle": "PACS", "InstanceAvailability": "ONLINE", "StorageMediaFileSetUID": "1.2.3.7"}
    new = derived(ct_slice(body(), OverlayDate="20200101", **counts, **kept), tmp_path)
    assert [name for name in ("OverlayDate", *counts, *kept) if name in new] == []


def test_a_spacing_that_an_enhanced_object_was_reconstructed_at_is_gone() -> None:
    source, reconstruction = two_frames(), Dataset()
    reconstruction.ConvolutionKernel, reconstruction.ReconstructionPixelSpacing = "B30f", [0.7, 0.7]
    source.SharedFunctionalGroupsSequence[0].CTReconstructionSequence = Sequence([reconstruction])
    new = derive_slice(classic_frame(source, 0), HU, PLANE, DERIVATION, frame=0)
    assert new.ConvolutionKernel == "B30f"
    assert "ReconstructionPixelSpacing" not in new


def test_lists_of_the_images_that_an_object_refers_to_are_not_those_of_a_slice() -> None:
    source, series = two_frames(), Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = "1.2.3.4", Sequence([Dataset(), Dataset()])
    source.ReferencedSeriesSequence = Sequence([series])
    source.ReferencedImageSequence = Sequence([Dataset()])  # a localizer, which the slice refers to as well
    new = derive_slice(classic_frame(source, 0), HU, PLANE, DERIVATION, frame=0)
    assert "ReferencedSeriesSequence" not in new
    assert len(new.ReferencedImageSequence) == 1
    assert [item.ReferencedSOPInstanceUID for item in new.SourceImageSequence] == [source.SOPInstanceUID]


def test_a_lookup_table_for_inverted_display_is_not_kept(tmp_path: Path) -> None:
    new = derived(ct_slice(body(), PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"), tmp_path)
    assert new.PhotometricInterpretation == "MONOCHROME2"
    assert "PresentationLUTShape" not in new


def test_a_slice_in_another_series_has_another_uid(tmp_path: Path) -> None:
    header = dcmread(save(ct_slice(body()), tmp_path / "source.dcm"), stop_before_pixels=True)
    other = dataclasses.replace(DERIVATION, series_uid="2.25.78")
    uids = {derive_slice(header, HU, PLANE, derivation).SOPInstanceUID for derivation in (DERIVATION, other)}
    assert len(uids) == 2


def test_private_elements_inside_sequences_go_too(tmp_path: Path) -> None:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3"
    item.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "secret")
    new = derived(ct_slice(body(), ReferencedImageSequence=Sequence([item])), tmp_path)
    assert new.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert b"secret" not in (tmp_path / "new.dcm").read_bytes()


def test_padding_reads_back_as_the_same_mask(tmp_path: Path) -> None:
    padding = np.zeros(HU.shape, bool)
    padding[:3], padding[:, -2:] = True, True
    new = derived(ct_slice(body()), tmp_path, padding=padding)
    assert new["PixelPaddingValue"].VR == "SS"
    assert np.array_equal(new.pixel_array == new.PixelPaddingValue, padding)


def test_a_long_series_description_is_cut_so_that_the_label_stays(tmp_path: Path) -> None:
    new = derived(ct_slice(body(), SeriesDescription="x" * 64), tmp_path)
    assert len(new.SeriesDescription) == 64
    assert new.SeriesDescription.endswith(" [0.8 mm]")


def test_the_source_is_not_changed(tmp_path: Path) -> None:
    item = Dataset()
    item.ManufacturerModelName = "first"
    source = ct_slice(body(), ContributingEquipmentSequence=Sequence([item]))
    header = dcmread(save(source, tmp_path / "source.dcm"), stop_before_pixels=True)
    _ = header.ContributingEquipmentSequence[0].ManufacturerModelName
    before = copy.deepcopy(header)
    new = derive_slice(header, HU, PLANE, DERIVATION)
    assert header == before
    assert [part.ManufacturerModelName for part in new.ContributingEquipmentSequence] == ["first", "ctsr"]


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    derived(ct_slice(body()), tmp_path)
    first = (tmp_path / "new.dcm").read_bytes()
    derived(ct_slice(body()), tmp_path)
    assert (tmp_path / "new.dcm").read_bytes() == first


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_any_encoding_of_the_source_becomes_explicit_little_endian(tmp_path: Path, syntax: str) -> None:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3"
    source = ct_slice(body(), ReferencedImageSequence=Sequence([item]))
    source.file_meta.TransferSyntaxUID = syntax
    new = derived(source, tmp_path)
    assert new.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(new.pixel_array, np.rint(HU))
    assert new.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3"


def test_an_element_that_no_writer_accepts_is_left_out_and_named(tmp_path: Path) -> None:
    source = ct_slice(body())
    source.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    header = dcmread(save(source, tmp_path / "source.dcm"), stop_before_pixels=True)
    header["TableHeight"] = DataElement("TableHeight", "UN", b"")
    header["TableHeight"].VR = "XX"
    left_out = save_slice(derive_slice(header, HU, PLANE, DERIVATION), tmp_path / "new.dcm")
    assert left_out == ("TableHeight",)
    assert dcmread(tmp_path / "new.dcm").PatientID == "P1"


def test_a_source_without_an_instance_uid_is_an_error(tmp_path: Path) -> None:
    header = ct_slice(body())
    del header.SOPInstanceUID
    with pytest.raises(ReadError, match="cannot be carried over"):
        derive_slice(header, HU, PLANE, DERIVATION)


def two_frames() -> Dataset:
    """An enhanced object whose tube voltage is shared and whose exposure time is each frame's own."""
    ds = enhanced(slices(2))
    details = Dataset()
    details.KVP = ds.KVP
    del ds.KVP
    ds.SharedFunctionalGroupsSequence[0].CTXRayDetailsSequence = Sequence([details])
    for frame, milliseconds in zip(ds.PerFrameFunctionalGroupsSequence, (500.4, 501.0), strict=True):
        exposure = Dataset()
        exposure.ExposureTimeInms = milliseconds
        frame.CTExposureSequence = Sequence([exposure])
    return ds


def test_a_frame_becomes_a_classic_slice_with_its_own_attributes(tmp_path: Path) -> None:
    source = two_frames()
    header = classic_frame(source, 1)
    save_slice(derive_slice(header, HU, PLANE, DERIVATION, frame=1, instance_number=2), tmp_path / "f")
    new = dcmread(tmp_path / "f")
    assert new.SOPClassUID == CTImageStorage
    assert (new.KVP, new.SliceThickness, new.ExposureTime, new.InstanceNumber) == (120, 2.5, 501, 2)
    assert new.SourceImageSequence[0].ReferencedFrameNumber == 2
    assert new.SourceImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2.1"
    for keyword in ("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        assert keyword in source
        assert keyword not in new


def test_retired_attributes_of_a_converted_object_do_not_come_back() -> None:
    source, unassigned = two_frames(), Dataset()
    unassigned.StudyComments, unassigned.BodyPartThickness = "as the first exam said", 200
    source.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = Sequence([unassigned])
    header = classic_frame(source, 0)
    assert "StudyComments" not in header
    assert header.BodyPartThickness == 200


def test_frames_of_one_object_get_uids_of_their_own() -> None:
    source = two_frames()
    uids = {derive_slice(classic_frame(source, i), HU, PLANE, DERIVATION, frame=i).SOPInstanceUID for i in (0, 1)}
    assert len(uids) == 2


def test_dciodvfy_finds_nothing_wrong_with_a_derived_slice(tmp_path: Path) -> None:
    padding = np.zeros(HU.shape, bool)
    padding[:3] = True
    derived(ct_slice(body()), tmp_path, padding=padding)
    assert dciodvfy_errors(tmp_path / "new.dcm") == set()
    save_slice(derive_slice(classic_frame(two_frames(), 0), HU, PLANE, DERIVATION, frame=0), tmp_path / "frame.dcm")
    assert dciodvfy_errors(tmp_path / "frame.dcm") == set()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_encoder_makes_the_bytes_of_pydicoms_own(tmp_path: Path, syntax: str) -> None:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3"
    source = ct_slice(body(), ReferencedImageSequence=Sequence([item]), PatientName="Müller^Jörg", OtherPatientIDs="")
    source.SpecificCharacterSet = "ISO_IR 100"
    source.add_new("ICCProfile", "OB", b"x" * 70_000)
    source.file_meta.TransferSyntaxUID = syntax
    header = dcmread(save(source, tmp_path / "source.dcm"), stop_before_pixels=True)
    new = derive_slice(header, HU, PLANE, DERIVATION)
    expected = BytesIO()
    dcmwrite(expected, copy.deepcopy(new), enforce_file_format=True)
    assert file_bytes(new, new.file_meta) == expected.getvalue()


def test_group_lengths_of_the_source_are_not_written(tmp_path: Path) -> None:
    """GE writes the retired (gggg,0000): carried over to other elements, they would be wrong (PS3.5 7.2)."""
    source = ct_slice(body())
    source.add_new(0x00080000, "UL", 1234)
    source.add_new(0x00280000, "UL", 5678)
    content = BytesIO()
    dcmwrite(content, source, enforce_file_format=True)
    header = dcmread(BytesIO(content.getvalue()), stop_before_pixels=True)
    header.add(RawDataElement(BaseTag(0x00100000), "UL", 4, b"\x01\0\0\0", 0, False, True))
    save_slice(derive_slice(header, HU, PLANE, DERIVATION), tmp_path / "new.dcm")
    new = dcmread(tmp_path / "new.dcm")
    assert not [tag for tag in new.keys() if tag.element == 0]  # noqa: SIM118


@pytest.mark.parametrize(
    ("said", "step", "written"),
    [(5, 2.5, "2.5"), (-2.5, 2.5, "2.5"), (2.51, 2.5, "2.51"), (5, None, "5.0"), (-5, None, "")],
)
def test_the_distance_of_slices_is_that_of_their_positions(
    tmp_path: Path, said: float, step: float | None, written: str
) -> None:
    new = derived(ct_slice(body(), SpacingBetweenSlices=said), tmp_path, slice_step=step)
    assert str(new.get("SpacingBetweenSlices", "")) == written
