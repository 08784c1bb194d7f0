import pydicom
import pytest

from ctsr.dicom.encode import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ctsr.hashing import derived_uid


@pytest.mark.parametrize("parts", [("a",), ("1.2.3", "0.8"), ("ä", "")])
def test_a_derived_uid_is_valid_and_always_the_same(parts: tuple[str, ...]) -> None:
    uid = derived_uid(*parts)
    assert pydicom.uid.UID(uid).is_valid
    assert uid == derived_uid(*parts)


def test_parts_do_not_run_into_each_other() -> None:
    assert len({derived_uid("ab", "c"), derived_uid("a", "bc"), derived_uid("abc"), derived_uid("abc", "")}) == 4


def test_the_implementation_is_named_within_dicoms_limits() -> None:
    assert pydicom.uid.UID(IMPLEMENTATION_CLASS_UID).is_valid
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16
