"""`ctsr preprocess`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
import yaml

from ctsr.cli.cells import NONE, mm, pixels
from ctsr.cli.console import Console
from ctsr.cli.options import Common, resolved
from ctsr.files import write_atomically
from ctsr.hu import HUCorrection
from ctsr.paths import native_path, resolve_path

if TYPE_CHECKING:
    from ctsr.preprocess import PreprocessReport, SeriesRow

__all__ = ["Preprocess"]

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
