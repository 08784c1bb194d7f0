"""A split as the user reads it: one row per patient, as JSON and as a table."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctsr.data.split import PARTS, Split
from ctsr.files import write_atomically
from ctsr.series import PatientExams

__all__ = ["PatientRow", "patient_rows", "write_split"]


@dataclass(frozen=True)
class PatientRow:
    """What a split says of one patient; where his series disagree, the value of the longest."""

    patient_id: str
    path: str
    """Relative to the root where the patient lies below it."""
    num_slices: int
    modality: str
    device: str
    rows: int
    columns: int
    slice_thickness_mm: float | None
    pixel_spacing_mm: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the JSON file."""
        row = asdict(self)
        row["cols"] = row.pop("columns")
        return row


def patient_rows(patients: Sequence[PatientExams], names: Sequence[str], root: Path) -> tuple[PatientRow, ...]:
    """One row for each of `names`, in their order."""
    by_id = {patient.patient_id: patient for patient in patients}
    return tuple(_row(by_id[name], root) for name in names)


def _row(patient: PatientExams, root: Path) -> PatientRow:
    longest = max(patient.series, key=lambda series: len(series.slices))
    inside = patient.path.is_relative_to(root)
    return PatientRow(
        patient_id=patient.patient_id,
        path=(patient.path.relative_to(root) if inside else patient.path).as_posix(),
        num_slices=patient.num_slices,
        modality=longest.modality,
        device=longest.scanner,
        rows=longest.rows,
        columns=longest.columns,
        slice_thickness_mm=longest.slice_thickness,
        pixel_spacing_mm=longest.pixel_spacing,
    )


def write_split(path: Path, split: Split, patients: Sequence[PatientExams], root: Path, seed: int) -> None:
    """Write the split as JSON: `meta`, `counts` and `splits`."""
    parts = {name: patient_rows(patients, split.part(name), root) for name in PARTS}
    document = {
        "meta": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "root": str(root),
            "seed": seed,
            # A split is computed on the CPU; the fields are those of the user's earlier files.
            "device": "cpu",
            "device_name": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "counts": {
            name: {"num_patients": len(rows), "total_slices": sum(row.num_slices for row in rows)}
            for name, rows in parts.items()
        },
        "splits": {name: [row.as_dict() for row in rows] for name, rows in parts.items()},
    }
    write_atomically(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
