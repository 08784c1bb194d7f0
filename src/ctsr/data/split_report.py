"""A split as the user reads it: one row per patient, as JSON and as a table."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctsr.data.split import PARTS, Split
from ctsr.files import write_json
from ctsr.series import PatientExams

__all__ = ["PatientRow", "patient_rows", "write_split"]


@dataclass(frozen=True)
class PatientRow:
    """What a split says of one patient; where his series disagree, the value of the longest."""

    patient_id: str
    path: str
    """Relative to the root where there is one root, else absolute."""
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


def patient_rows(
    patients: Sequence[PatientExams], names: Sequence[str], roots: Sequence[Path]
) -> tuple[PatientRow, ...]:
    """One row for each of `names`, in their order."""
    by_id = {patient.patient_id: patient for patient in patients}
    return tuple(_row(by_id[name], roots) for name in names)


def _row(patient: PatientExams, roots: Sequence[Path]) -> PatientRow:
    longest = max(patient.series, key=lambda series: len(series.slices))
    # Below one root a relative path names a patient; below several it would not say which.
    relative = len(roots) == 1 and patient.path.is_relative_to(roots[0])
    return PatientRow(
        patient_id=patient.patient_id,
        path=(patient.path.relative_to(roots[0]) if relative else patient.path.absolute()).as_posix(),
        num_slices=patient.num_slices,
        modality="CT",
        device=longest.scanner,
        rows=longest.rows,
        columns=longest.columns,
        slice_thickness_mm=longest.slice_thickness,
        pixel_spacing_mm=longest.pixel_spacing,
    )


def write_split(path: Path, split: Split, patients: Sequence[PatientExams], roots: Sequence[Path], seed: int) -> None:
    """Write the split as JSON: `meta`, `counts` and `splits`."""
    parts = {name: patient_rows(patients, split.part(name), roots) for name in PARTS}
    document = {
        "meta": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "root": ", ".join(map(str, roots)),
            "seed": seed,
            # A split is computed on the CPU; the fields are those that the scripts of ESRGAN/ have always written.
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
    write_json(path, document)
