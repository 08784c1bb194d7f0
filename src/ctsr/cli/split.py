"""`ctsr split`."""

from dataclasses import dataclass, field
from pathlib import Path

from ctsr.cli.cells import NONE, mm
from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.data.datasets import open_roots
from ctsr.data.split import PARTS, PatientRow, patient_rows, split_file, split_patients, write_split
from ctsr.paths import resolve_path

__all__ = ["Split"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Divide the patients of a root into train, val and test (70/15/15), and show who is where.

    ctsr split --root preprocessed_data

    ctsr split --root EXAMS --seed 7
    """

    root: tuple[Path, ...] = (Path("preprocessed_data"),)
    """One or several roots, each with one folder per patient."""
    seed: int = 42
    """The same patients and seed give the same split."""
    out_dir: Path = Path("splits")
    """Receives patient_split_seed<seed>.json."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Write the split and print its table. Exit status: 0, or 1 when a patient's CT cannot be read."""
        roots = [resolve_path(root, progress=console) for root in self.root]
        patients = open_roots(roots, progress=console)
        split = split_patients(patients.ids, self.seed, together=patients.people.groups)
        for note in patients.people.notes:
            console.note(note)
        path = split_file(self.out_dir, self.seed)
        write_split(path, split, patients.usable, roots, self.seed)
        columns = ("part", "patient", "slices", "modality", "scanner", "thickness mm", "spacing mm")
        rows = [
            (name, *_cells(row)) for name in PARTS for row in patient_rows(patients.usable, split.part(name), roots)
        ]
        console.table(f"Split of {len(patients.ids)} patients with seed {self.seed}", columns, rows)
        console.print(f"written: {path}")
        if patients.failures:
            console.error(f"CT of {len(patients.failures)} patients cannot be read, see above")
        return int(bool(patients.failures))


def _cells(row: PatientRow) -> tuple[str, ...]:
    lengths = mm(row.slice_thickness_mm), mm(*row.pixel_spacing_mm)
    return row.patient_id, str(row.num_slices), row.modality, row.device or NONE, *lengths
