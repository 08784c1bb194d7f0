"""`ctsr scan`: what is in a folder of exams, what of it can be used, and what is wrong with it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import tyro

from ctsr.cli.console import NONE, Console, mm, pixels
from ctsr.cli.options import Common
from ctsr.errors import ReadError, UsageError
from ctsr.exams import read_slice, scan
from ctsr.files import write_json
from ctsr.hu import HUCorrection
from ctsr.identity import find_people
from ctsr.series import DefectKind, Excluded, Inventory, Series
from ctsr.series_quality import SeriesQuality, measure_series

__all__ = ["Scan"]

COLUMNS = (
    *("patient", "series", "slices", "matrix", "pixel mm", "thickness mm", "step mm"),
    *("kernel", "scanner", "defects"),
)
QUALITY_COLUMNS = ("noise HU", "noise 1/mm", "blur mm")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """List the patients and series below a folder, and what is wrong with them.

    The exit status is 1 where nothing can be used or a file is broken. For example:

    ctsr scan exams

    ctsr scan exams --pixels --json inventory.json

    ctsr scan exams --quality
    """

    folder: tyro.conf.Positional[Path | None] = None
    """One folder per patient, whatever lies below it; or a single patient, series or file."""
    root: Path | None = None
    """Another way to give the folder."""
    json: Path | None = None
    """Write all that was found to this file, slice by slice."""
    pixels: bool = False
    """Decode every slice as well: headers do not tell whether pixels can be read."""
    quality: bool = False
    """Decode up to five slices of each series, and measure their noise (standard deviation, mean frequency) and the
    blur of their edges."""
    assume_hu: bool = False
    """With --pixels or --quality: take stored values for HU where the header gives no rescale."""
    hu_offset: float = 0.0
    """HU to add to what the headers make of stored values, as -1024 for an intercept that was lost."""
    hu_scale: float = 1.0
    """Factor before `hu_offset`, as 1000 for values that were scaled to -1 … 1."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 1 where nothing can be used or a file is broken."""
        folder = self.folder or self.root
        if folder is None:
            raise UsageError("ctsr scan: give a folder that holds one folder per patient: ctsr scan DIR")
        inventory = scan(folder, correction=HUCorrection(self.hu_scale, self.hu_offset), progress=console)
        measured = _measure(inventory, self.assume_hu, console) if self.quality else {}
        _print(inventory, measured, console)
        for line in _people(inventory):
            console.print(line)
        if self.json is not None:
            write_json(self.json, asdict(inventory) | _quality_json(measured))
            console.note(f"wrote {self.json}")
        failures = _failures(inventory, self.assume_hu, console) if self.pixels else []
        for failure in failures:
            console.error(failure)
        broken = any(excluded.failed for excluded in _excluded(inventory))
        return int(broken or bool(failures) or not inventory.usable)


def _measure(inventory: Inventory, assume_hu: bool, console: Console) -> dict[Series, SeriesQuality | str]:
    """Noise and sharpness of each series, or why they are not known."""
    series = list(inventory.all_series())
    measured: dict[Series, SeriesQuality | str] = {}
    for entry in console.track(series, total=len(series), what="Measuring noise and sharpness"):
        try:
            measured[entry] = measure_series(entry, assume_hu=assume_hu)
        except ReadError as error:
            measured[entry] = str(error)
    return measured


def _people(inventory: Inventory) -> list[str]:
    """Which folders are one patient, and which only have a PatientID in common."""
    people = find_people({patient.patient_id: patient.identities for patient in inventory.usable})
    same = [f"one patient, by study or PatientID: {', '.join(group)}" for group in people.groups]
    return [*same, *people.notes]


def _quality_json(measured: Mapping[Series, SeriesQuality | str]) -> dict[str, object]:
    if not measured:
        return {}
    entries = [
        {
            "patient_id": series.patient_id,
            "series_uid": series.series_uid,
            **({"phase": series.phase} if series.phase else {}),
            **({"error": found} if isinstance(found, str) else asdict(found)),
        }
        for series, found in measured.items()
    ]
    return {"quality": entries}


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


def _print(inventory: Inventory, measured: Mapping[Series, SeriesQuality | str], console: Console) -> None:
    series = list(inventory.all_series())
    if series:
        columns = COLUMNS + QUALITY_COLUMNS if measured else COLUMNS
        rows = [_row(entry) + (_quality_cells(measured[entry]) if measured else ()) for entry in series]
        console.table("", columns, rows)
    for entry, found in measured.items():
        for why in _unknown(found):
            console.print(f"{entry.patient_id}, series {_name(entry)}: {why}")
    for entry in series:
        for defect in (defect for defect in entry.defects if defect.kind is not DefectKind.SINGLE_SLICE):
            console.print(f"{entry.patient_id}, series {_name(entry)}: {defect.kind.value}: {defect.detail}")
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


def _quality_cells(found: SeriesQuality | str) -> tuple[str, ...]:
    if isinstance(found, str):
        return (NONE,) * len(QUALITY_COLUMNS)
    noise, sharpness = found.noise, found.sharpness
    return (
        NONE if noise.sigma_hu is None else f"{noise.sigma_hu:.1f}",
        NONE if noise.mean_frequency_per_mm is None else f"{noise.mean_frequency_per_mm:.2f}",
        NONE if sharpness.blur_sigma_mm is None else f"{sharpness.blur_sigma_mm:.2f}",
    )


def _unknown(found: SeriesQuality | str) -> list[str]:
    """Why figures are missing."""
    if isinstance(found, str):
        return [f"not measured: {found}"]
    reasons = {"noise": found.noise.reason, "sharpness": found.sharpness.reason}
    return [f"no {what}: {reason}" for what, reason in reasons.items() if reason]


def _name(series: Series) -> str:
    """Its description, and the end of its UID: enough to tell the series of a patient apart."""
    tail = series.series_uid if len(series.series_uid) <= 12 else f"…{series.series_uid[-6:]}"
    return f"{series.description} {tail} {series.phase}".strip()


def _left_out(excluded: Excluded) -> tuple[str, ...]:
    return str(excluded.path), str(excluded.num_slices), excluded.reason


def _excluded(inventory: Inventory) -> tuple[Excluded, ...]:
    return (*inventory.excluded, *(excluded for patient in inventory.patients for excluded in patient.excluded))


def _summary(inventory: Inventory) -> str:
    series = list(inventory.all_series())
    slices = sum(len(entry.slices) for entry in series)
    words = [f"{_count(len(inventory.usable), 'patient')} with {len(series)} usable series, {_count(slices, 'slice')}"]
    empty = [patient.patient_id for patient in inventory.patients if not patient.series]
    if empty:
        words.append(f"without usable CT: {', '.join(empty)}")
    left_out = sum(excluded.num_slices for excluded in _excluded(inventory))
    if left_out:
        words.append(f"{_count(left_out, 'image')} left out")
    ignored = sum((Counter(patient.ignored) for patient in inventory.patients), Counter[str]())
    if ignored:
        words.append("ignored: " + ", ".join(f"{count} {what}" for what, count in sorted(ignored.items())))
    return "; ".join(words)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
