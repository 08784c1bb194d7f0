"""Whose an image is, by its header: for telling a patient's folder from one that holds several."""

from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

__all__ = ["patient_id_in"]


def patient_id_in(path: Path) -> str:
    """The header's PatientID; empty where there is none, or the file is no DICOM."""
    try:
        header = pydicom.dcmread(path, specific_tags=["PatientID"], stop_before_pixels=True)
    except InvalidDicomError:
        return ""
    return str(header.get("PatientID", "") or "").strip()
