"""Exams of several patients, made or real, and what a scan finds of one."""

from collections.abc import Iterable
from pathlib import Path

from pydicom import Dataset, dcmread

from ctsr.exams import scan_patient
from ctsr.hashing import derived_uid
from ctsr.series import DefectKind, PatientExams, Series
from tests.made.ct import body, save_series

NAMES = ("anna", "bert", "cleo", "dora", "emil", "fred")

REAL_PATIENTS = (
    "ACRIN-013",
    "C3L-00189",
    "CMB-CRC-MSB-01068",
    "KiTS-00072",
    "LIDC-IDRI-0001",
    "LungFCP-01-0001",
    "RIDER-0117",
)
"""Those below `patients/` of the real CT, sorted."""


def study_of(name: str) -> str:
    """The StudyInstanceUID of a patient's exam."""
    return derived_uid("study", name)


def save_patient(root: Path, name: str, *, slices: int, size: int, seed: int = 0, series: str = "") -> list[Path]:
    """A patient's folder with one series of discs of `size`² pixels, with blobs that degradation blurs."""
    uid = series or f"1.3.{seed + 1}"
    images = [body(size, seed=100 * seed + i, radius=0.84, texture=400, smooth=1.2) for i in range(slices)]
    return save_series(root / name / uid, images, series=uid, PatientID=f"PID {name}", StudyInstanceUID=study_of(name))


def save_patients(root: Path, names: Iterable[str] = NAMES, *, slices: int, size: int, grow: int = 0) -> Path:
    """A root with a folder for each patient; each one's images are `grow` pixels larger than those before."""
    for seed, name in enumerate(names):
        save_patient(root, name, slices=slices, size=size + grow * seed, seed=seed)
    return root


def only_series(folder: Path) -> Series:
    """The one series that is there."""
    exams = scan_patient(folder)
    assert len(exams.series) == 1, exams
    return exams.series[0]


def kinds(exams: PatientExams | Series) -> set[DefectKind]:
    """Every kind of defect that a scan found."""
    series = exams.series if isinstance(exams, PatientExams) else (exams,)
    return {defect.kind for one in series for defect in one.defects}


def real_slices(real_ct: Path, patient: str, count: int) -> list[Dataset]:
    """The lowest `count` slices of a real patient, whole, from below."""
    paths = only_series(real_ct / "patients" / patient).slices[:count]
    return [dcmread(header.path) for header in paths]
