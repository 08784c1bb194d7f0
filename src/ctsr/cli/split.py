"""`ctsr split`."""

from dataclasses import dataclass, field
from pathlib import Path

from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.data.roots import open_root
from ctsr.data.split import PARTS, split_file, split_patients
from ctsr.data.split_report import PatientRow, patient_rows, write_split
from ctsr.paths import resolve_path

__all__ = ["Split"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Divide the patients of a root into train, val and test (70/15/15), and show who is where.

    ctsr split --root preprocessed_data

    ctsr split --root EXAMS --seed 7
    """

    root: Path = Path("preprocessed_data")
    """One folder per patient."""
    seed: int = 42
    """The same patients and seed give the same split."""
    out_dir: Path = Path("splits")
    """Receives patient_split_seed<seed>.json."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Write the split and print its table."""
        root = resolve_path(self.root, progress=console)
        patients = open_root(root, progress=console).usable
        split = split_patients((patient.patient_id for patient in patients), self.seed)
        path = split_file(self.out_dir, self.seed)
        write_split(path, split, patients, root, self.seed)
        columns = ("part", "patient", "slices", "modality", "scanner", "thickness mm", "spacing mm")
        rows = [(name, *_cells(row)) for name in PARTS for row in patient_rows(patients, split.part(name), root)]
        console.table(f"Split of {len(patients)} patients with seed {self.seed}", columns, rows)
        console.print(f"written: {path}")
        return 0


def _cells(row: PatientRow) -> tuple[str, ...]:
    thickness = "–" if row.slice_thickness_mm is None else f"{row.slice_thickness_mm:g}"
    spacing = " × ".join(f"{mm:.4g}" for mm in row.pixel_spacing_mm)
    return row.patient_id, str(row.num_slices), row.modality, row.device or "–", thickness, spacing
