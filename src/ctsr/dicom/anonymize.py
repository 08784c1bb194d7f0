"""De-identification of derived slices after the basic profile of DICOM PS3.15, Annex E.

The table of attributes is that of `dicom-anonymizer` (edition 2024b). UIDs and the PatientID become keyed hashes: the
same key keeps slices, series and studies of a patient together, and nobody without it can find out whose they are.
"""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

from ctsr.dicom.encode import file_meta
from ctsr.dicom.write import Code, Derivation, program_item
from ctsr.errors import UsageError
from ctsr.hashing import derived_uid, digest

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
