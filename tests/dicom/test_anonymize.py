"""Anonymized slices: nothing left of who the patient is, at any depth, and still one valid series."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ctsr.dicom.variants import Anonymizer
from ctsr.dicom.write import Derivation, ThinSlice, derive_slice, save_slice
from ctsr.volume import Plane
from tests.made.ct import body, ct_slice, save
from tests.oracles import dciodvfy_errors

pytest.importorskip("dicomanonymizer")

DERIVATION = Derivation(
    description="Not for diagnosis. Super-resolution", label="[SR x2]", settings="test", series_uid="2.25.77"
)
HU = np.linspace(-1000, 1500, 30 * 32).reshape(30, 32).astype(np.float32)
PLANE = Plane((30, 32), (0.8, 0.8), (-99.95, -119.65, 30.0), ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
SECRETS = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "MRN-4711",
    "OtherPatientIDs": "OTHER-4712",
    "PatientAddress": "Musterweg 5",
    "PatientBirthDate": "19640812",
    "StudyDate": "20210203",
    "AcquisitionDate": "20210204",
    "StudyTime": "111213",
    "AccessionNumber": "ACC99",
    "ReferringPhysicianName": "Arzt^Anton",
    "InstitutionName": "Klinikum Musterstadt",
    "StationName": "CTRAUM7",
    "DeviceSerialNumber": "SN-778899",
    "StudyDescription": "Verlauf nach OP Mustermann",
    "SeriesDescription": "Thorax Mustermann",
    "ProtocolName": "Protokoll Mustermann",
    "ImageComments": "Bild von Erika",
}


def source(folder: Path) -> Dataset:
    made = ct_slice(body())
    for keyword, value in SECRETS.items():
        setattr(made, keyword, value)
    request = Dataset()
    request.RequestedProcedureDescription = "Kontrolle Mustermann"
    made.RequestAttributesSequence = Sequence([request])
    nested = Dataset()
    nested.CodeValue, nested.CodingSchemeDesignator, nested.CodeMeaning = "1", "99X", "x"
    nested.PatientName = "Mustermann^Erika"
    made.AnatomicRegionSequence = Sequence([nested])
    made.StudyInstanceUID = "1.2.276.4711.1"
    made.FrameOfReferenceUID = "1.2.276.4711.2"
    return dcmread(save(made, folder / "source.dcm"), stop_before_pixels=True)


def anonymized(folder: Path, key: str = "key") -> Dataset:
    derived = derive_slice(source(folder), HU, PLANE, DERIVATION)
    Anonymizer(key)(derived, DERIVATION)
    save_slice(derived, folder / "new.dcm")
    return dcmread(folder / "new.dcm")


def test_no_word_of_who_the_patient_is_stays_in_the_file(tmp_path: Path) -> None:
    before = source(tmp_path)
    new = anonymized(tmp_path)
    content = (tmp_path / "new.dcm").read_bytes()
    for secret in (*SECRETS.values(), "Mustermann", "Erika", "1.2.276.4711", str(before.SOPInstanceUID)):
        assert secret.encode() not in content, secret
    assert new.PatientIdentityRemoved == "YES"
    assert new.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert new.DerivationDescription == "Not for diagnosis. Super-resolution"


def test_what_belongs_together_stays_together_for_who_has_the_key_only(tmp_path: Path) -> None:
    first, again, other = anonymized(tmp_path), anonymized(tmp_path), anonymized(tmp_path, "another key")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert first[keyword].value == again[keyword].value
        assert first[keyword].value != other[keyword].value
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID


@pytest.mark.parametrize("seen", ["raw", "converted"])
def test_slices_made_of_one_header_are_hashed_once_and_leave_it_as_it_was(tmp_path: Path, seen: str) -> None:
    header, untouched = source(tmp_path), source(tmp_path)
    if seen == "converted":  # as whoever looks at an element leaves it: an object that can be changed
        assert len(list(header.iterall())) > len(header)
    made: list[Dataset] = []
    for location in (30.0, 31.0, 32.0):
        thin = ThinSlice(1.0, 1.0, location, (("1.2.3.4.1", None),))
        derived = derive_slice(header, HU, PLANE, DERIVATION, thin=thin)
        Anonymizer("key")(derived, DERIVATION)
        save_slice(derived, tmp_path / "new.dcm")
        made.append(dcmread(tmp_path / "new.dcm"))
    assert header == untouched
    assert made[0].StudyInstanceUID == Anonymizer("key").uid("1.2.276.4711.1")
    own = {"SOPInstanceUID", "SliceLocation"}
    texts = [{element.keyword: str(element) for element in ds if element.keyword not in own} for ds in made]
    assert texts[0] == texts[1] == texts[2]


def test_items_that_slices_have_in_common_say_the_same_in_each_and_in_plain_ones(tmp_path: Path) -> None:
    made = [anonymized(tmp_path) for _ in range(2)]
    made.append(derive_slice(source(tmp_path), HU, PLANE, DERIVATION))
    assert [ds.ContributingEquipmentSequence[-1].ContributionDescription for ds in made] == [DERIVATION.description] * 3


def test_pixels_and_geometry_are_what_they_were_and_the_file_is_valid(tmp_path: Path) -> None:
    new = anonymized(tmp_path)
    assert np.array_equal(new.pixel_array, np.rint(HU))
    assert [float(mm) for mm in new.ImagePositionPatient] == [-99.95, -119.65, 30.0]
    plain = derive_slice(source(tmp_path), HU, PLANE, DERIVATION)
    save_slice(plain, tmp_path / "plain.dcm")
    assert set(dciodvfy_errors(tmp_path / "new.dcm")) <= set(dciodvfy_errors(tmp_path / "plain.dcm"))
