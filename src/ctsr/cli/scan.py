"""`ctsr scan`: what is in a folder of exams, what of it can be used, and what is wrong with it."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import tyro

from ctsr.cli.cells import mm, pixels
from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.errors import ReadError, UsageError
from ctsr.exams import read_slice, scan
from ctsr.files import write_json
from ctsr.series import DefectKind, Excluded, Inventory, Series

__all__ = ["Scan"]

COLUMNS = (
    *("patient", "series", "slices", "matrix", "pixel mm", "thickness mm", "step mm"),
    *("kernel", "scanner", "defects"),
)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """List the patients and series below a folder, and what is wrong with them.

    The exit status is 1 where nothing can be used or a file is broken. For example:

    ctsr scan exams

    ctsr scan exams --pixels --json inventory.json
    """

    folder: tyro.conf.Positional[Path | None] = None
    """One folder per patient, whatever lies below it; or a single patient, series or file."""
    root: Path | None = None
    """Another way to give the folder."""
    json: Path | None = None
    """Write all that was found to this file, slice by slice."""
    pixels: bool = False
    """Decode every slice as well: headers do not tell whether pixels can be read."""
    assume_hu: bool = False
    """With --pixels: take stored values for HU where the header gives no rescale."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 1 where nothing can be used or a file is broken."""
        folder = self.folder or self.root
        if folder is None:
            raise UsageError("ctsr scan: which folder? Give one that holds a folder for each patient: ctsr scan DIR")
        inventory = scan(folder, progress=console)
        _print(inventory, console)
        if self.json is not None:
            write_json(self.json, asdict(inventory))
            console.note(f"wrote {self.json}")
        failures = _failures(inventory, self.assume_hu, console) if self.pixels else []
        for failure in failures:
            console.error(failure)
        broken = any(one.failed for one in _excluded(inventory))
        return int(broken or bool(failures) or not inventory.usable)


def _failures(inventory: Inventory, assume_hu: bool, console: Console) -> list[str]:
    """One line for each slice that cannot be decoded."""
    slices = [(series, index) for series in inventory.all_series() for index in range(len(series.slices))]
    failures: list[str] = []
    for series, index in console.track(slices, total=len(slices), what="Decoding slices"):
        try:
            read_slice(series, index, assume_hu=assume_hu)
        except ReadError as error:
            failures.append(str(error))
    return failures


def _print(inventory: Inventory, console: Console) -> None:
    series = list(inventory.all_series())
    if series:
        console.table("", COLUMNS, map(_row, series))
    for one in series:
        for defect in (defect for defect in one.defects if defect.kind is not DefectKind.SINGLE_SLICE):
            console.print(f"{one.patient_id}, series {_name(one)}: {defect.kind.value}: {defect.detail}")
    excluded = _excluded(inventory)
    if excluded:
        console.print()
        console.table("Left out", ("what", "images", "why"), map(_left_out, excluded))
    console.print()
    console.print(_summary(inventory))


def _row(series: Series) -> tuple[str, ...]:
    kinds = Counter(defect.kind.value for defect in series.defects)
    return (
        series.patient_id,
        _name(series),
        str(len(series.slices)),
        pixels(series.rows, series.columns),
        mm(*series.pixel_spacing),
        mm(series.slice_thickness),
        mm(series.slice_step),
        series.kernel,
        series.scanner,
        ", ".join(kinds),
    )


def _name(series: Series) -> str:
    """Its description, and the end of its UID: enough to tell the series of a patient apart."""
    tail = series.series_uid if len(series.series_uid) <= 12 else f"…{series.series_uid[-6:]}"
    return f"{series.description} {tail}".strip()


def _left_out(excluded: Excluded) -> tuple[str, ...]:
    return str(excluded.path), str(excluded.num_slices), excluded.reason


def _excluded(inventory: Inventory) -> tuple[Excluded, ...]:
    return (*inventory.excluded, *(one for patient in inventory.patients for one in patient.excluded))


def _summary(inventory: Inventory) -> str:
    series = list(inventory.all_series())
    slices = sum(len(one.slices) for one in series)
    words = [f"{_count(len(inventory.usable), 'patient')} with {len(series)} usable series, {_count(slices, 'slice')}"]
    empty = [patient.patient_id for patient in inventory.patients if not patient.series]
    if empty:
        words.append(f"without usable CT: {', '.join(empty)}")
    left_out = sum(one.num_slices for one in _excluded(inventory))
    if left_out:
        words.append(f"{_count(left_out, 'image')} left out")
    ignored = sum((Counter(patient.ignored) for patient in inventory.patients), Counter[str]())
    if ignored:
        words.append("ignored: " + ", ".join(f"{count} {what}" for what, count in sorted(ignored.items())))
    return "; ".join(words)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
