"""Roots: a folder of exams, raw or preprocessed, in which every patient goes by the source's folder name."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ctsr.errors import MissingInputError, ReadError
from ctsr.exams import scan
from ctsr.progress import Progress, Silent
from ctsr.series import Inventory, PatientExams

__all__ = ["PREPROCESSING_LOG", "SUFFIX", "open_root", "open_roots", "patient_names"]

PREPROCESSING_LOG = "preprocessing_log.csv"
SUFFIX = "pp"
"""What preprocessing adds to a patient's folder name."""


def open_root(root: Path, *, progress: Progress | None = None) -> Inventory:
    """Everything below `root`; patients of a preprocessed root go by their names in its log.

    Raises:
        MissingInputError: `root` is no folder, or holds no usable CT.
    """
    if not root.is_dir():
        raise MissingInputError(f"{root}: no such folder; give the folder that holds one folder per patient")
    inventory = scan(root, patient_ids=patient_names(root), progress=progress or Silent())
    if not inventory.usable:
        raise MissingInputError(f"{root}: no usable CT series below; `ctsr scan {root}` says what is there")
    return inventory


def open_roots(roots: Sequence[Path], *, progress: Progress | None = None) -> tuple[PatientExams, ...]:
    """The usable patients of several roots, sorted by id; one that is in several roots is one patient."""
    together: dict[str, PatientExams] = {}
    for root in roots:
        for patient in open_root(root, progress=progress).usable:
            earlier = together.get(patient.patient_id)
            together[patient.patient_id] = patient if earlier is None else _joined(earlier, patient)
    return tuple(together[name] for name in sorted(together))


def _joined(one: PatientExams, other: PatientExams) -> PatientExams:
    # One UID may stand for several series: slices tell them apart.
    known = {series.slices[0].identity for series in one.series}
    added = (series for series in other.series if series.slices[0].identity not in known)
    return PatientExams(one.patient_id, one.path, (*one.series, *added))


def patient_names(root: Path) -> dict[str, str]:
    """Folder name → patient id, as the log of a preprocessed root tells; empty for a raw root.

    The log decides, not the ending of a name: a patient called Krupp keeps his.

    Raises:
        ReadError: the log is none of ours.
    """
    log = root / PREPROCESSING_LOG
    if not log.is_file():
        return {}
    with log.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        if "patient_id" not in (rows.fieldnames or ()):
            raise ReadError(f"{log} has no column patient_id; run `ctsr preprocess` again, or move the file away")
        return {row["patient_id"] + SUFFIX: row["patient_id"] for row in rows}
