"""`ctsr preprocess` and `ctsr split`: exams made ready for training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
import yaml

from ctsr.cli.console import NONE, Console, mm, pixels
from ctsr.cli.options import Common, resolved
from ctsr.dicom.compress import Compression
from ctsr.files import write_atomically
from ctsr.hu import HUCorrection
from ctsr.paths import native_path, resolve_path

if TYPE_CHECKING:
    from ctsr.data.split import PatientRow
    from ctsr.preprocess import PreprocessReport, SeriesRow


CONFIG = "preprocess_config.yaml"
COLUMNS = ("patient", "series", "slices", "size", "spacing mm", "new size", "new mm", "result")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resample every CT series below a root in plane to one pixel spacing, as DICOM.

    Runs again where it stopped; the originals are only read.

    ctsr preprocess --root EXAMS

    ctsr preprocess --root EXAMS --out_dir D:/SR/preprocessed_data --target_spacing 0.7
    """

    root: Path
    """One folder per patient, whatever lies below."""
    out_dir: Path = Path("preprocessed_data")
    """Receives the same tree, patient folders with the suffix `pp`, and the two logs."""
    target_spacing: float = 0.8
    """In-plane pixel spacing in mm."""
    antialias: bool = True
    """Low-pass where pixels get coarser; without it, plain bilinear."""
    assume_hu: bool = False
    """Take stored values for HU where a header gives no rescale."""
    compress: Compression = "none"
    """Compress the results without loss; jpegls is smallest, rle is read everywhere."""
    hu_offset: float = 0.0
    """HU to add to what the headers make of stored values, as -1024 for an intercept that was lost."""
    hu_scale: float = 1.0
    """Factor before `hu_offset`, as 1000 for values that were scaled to -1 … 1."""
    workers: Annotated[int | None, tyro.conf.arg(aliases=["--jobs"])] = None
    """Processes; as many as there are cores when left out."""
    dask: str | None = None
    """Address of a dask scheduler, tcp://host:8786, whose workers do the work; they must see the same files."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when any series failed."""
        from ctsr.preprocess import preprocess

        root, out_dir = resolve_path(self.root, progress=console), native_path(self.out_dir)
        report = preprocess(
            root,
            out_dir,
            target_spacing=self.target_spacing,
            antialias=self.antialias,
            assume_hu=self.assume_hu,
            compress=self.compress,
            correction=HUCorrection(self.hu_scale, self.hu_offset),
            workers=self.workers,
            dask=self.dask,
            progress=console,
        )
        write_atomically(out_dir / CONFIG, yaml.safe_dump(resolved(self), sort_keys=False))
        show(console, report, out_dir)
        return int(report.failed > 0)


def show(console: Console, report: "PreprocessReport", out_dir: Path) -> None:
    """The table of series, the counts, and where the results are."""
    console.table(f"Resampled series in {out_dir}", COLUMNS, [_cells(row) for row in report.rows if not row.skipped])
    left_out = [row for row in report.rows if row.skipped]
    if left_out:
        console.print()
        columns = ("patient", "source", "slices", "left out because")
        console.table("", columns, [(row.patient_id, row.source, str(row.num_slices), row.reason) for row in left_out])
    console.print()
    console.print(f"{report.written} slices written, {report.kept} kept from before, {report.failed} series failed")
    console.print(f"written: {out_dir}")


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
        from ctsr.data.datasets import open_roots
        from ctsr.data.split import PARTS, patient_rows, split_file, split_patients, write_split

        roots = [resolve_path(root, progress=console) for root in self.root]
        patients = open_roots(roots, progress=console)
        split = split_patients(patients.ids, self.seed, together=patients.people.groups)
        for note in patients.people.notes:
            console.note(note)
        path = split_file(self.out_dir, self.seed)
        write_split(path, split, patients.usable, roots, self.seed)
        columns = ("part", "patient", "slices", "modality", "scanner", "thickness mm", "spacing mm")
        rows = [
            (name, *_split_cells(row))
            for name in PARTS
            for row in patient_rows(patients.usable, split.part(name), roots)
        ]
        console.table(f"Split of {len(patients.ids)} patients with seed {self.seed}", columns, rows)
        console.print(f"written: {path}")
        if patients.failures:
            console.error(f"CT of {len(patients.failures)} patients cannot be read, see above")
        return int(bool(patients.failures))


def _cells(row: "SeriesRow") -> tuple[str, ...]:
    return (
        row.patient_id,
        row.source.removeprefix(row.patient_id).strip("./") or NONE,
        str(row.num_slices),
        pixels(row.orig_rows, row.orig_cols),
        mm(row.orig_row_mm, row.orig_col_mm),
        pixels(row.new_rows, row.new_cols),
        mm(row.new_row_mm, row.new_col_mm),
        row.reason or ("upsampled" if row.upsampled else "ok"),
    )


def _split_cells(row: "PatientRow") -> tuple[str, ...]:
    lengths = mm(row.slice_thickness_mm), mm(*row.pixel_spacing_mm)
    return row.patient_id, str(row.num_slices), row.modality, row.device or NONE, *lengths
