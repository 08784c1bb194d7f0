"""`ctsr scan`, `preprocess` and `split`: what is in a folder of exams, and exams made ready for training."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
import yaml

from ctsr.cli.console import NONE, Console, mm, pixels
from ctsr.cli.options import Common, resolved
from ctsr.dicom.encode import Compression
from ctsr.dicom.header import ZIP
from ctsr.errors import ReadError, UsageError
from ctsr.exams import read_slice, scan
from ctsr.files import unpacked, write_atomically, write_json
from ctsr.hashing import find_people
from ctsr.hu import HUOptions
from ctsr.paths import native_path, resolve_path
from ctsr.reporting import counted
from ctsr.series import DefectKind, Excluded, Inventory, Series, check
from ctsr.series_quality import SeriesQuality, SliceJudge, measure_series

if TYPE_CHECKING:
    from ctsr.data.split import PatientRow
    from ctsr.preprocess import PreprocessReport, SeriesRow

COLUMNS = (
    *("patient", "series", "slices", "matrix", "pixel mm", "thickness mm", "step mm"),
    *("kernel", "scanner", "defects"),
)
QUALITY_COLUMNS = ("noise HU", "noise 1/mm", "blur mm")


@dataclass(frozen=True, kw_only=True)
class Scan(HUOptions):
    """List the patients and series below a folder, and what is wrong with them.

    The exit status is 1 where nothing can be used or a file is broken. For example:

    ctsr scan exams

    ctsr scan exams --pixels --json inventory.json

    ctsr scan exams --quality
    """

    folder: tyro.conf.Positional[Path | None] = None
    """One folder per patient, whatever lies below it; or a single patient, series, file, or a zip archive of these."""
    root: Path | None = None
    """Another way to give the folder."""
    json: Path | None = None
    """Write all that was found to this file, slice by slice; with --pixels, what cannot be decoded, too."""
    pixels: bool = False
    """Decode every slice as well: headers do not tell whether pixels can be read, and whether they look like HU."""
    quality: bool = False
    """Decode up to five slices of each series, and measure their noise (standard deviation, mean frequency) and the
    blur of their edges."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 1 where nothing can be used or a file is broken."""
        folder = self.folder or self.root
        if folder is None:
            raise UsageError("ctsr scan: give a folder that holds one folder per patient: ctsr scan DIR")
        if self.folder is not None and self.root is not None:
            raise UsageError(f"ctsr scan: one folder is scanned at a time, got {self.folder} and {self.root}")
        with unpacked(folder, progress=console) as source:
            return self._scan(source, console)

    def _scan(self, folder: Path, console: Console) -> int:
        inventory = scan(folder, correction=self.hu_correction, progress=console)
        measured = _measure(inventory, self.assume_hu, console) if self.quality else {}
        _print(inventory, measured, console)
        people = _people(inventory)
        for line in people:
            console.print(line)
        failures = _failures(inventory, self.assume_hu, console) if self.pixels else []
        if self.json is not None:
            decoded = {"pixels": failures} if self.pixels else {}
            write_json(self.json, asdict(inventory) | {"people": people} | decoded | _quality_json(measured))
            console.note(f"wrote {self.json}")
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
    """Which folders are one patient, which only have a PatientID in common, and which hold several people."""
    people = find_people({patient.patient_id: patient.identities for patient in inventory.usable})
    same = [f"one patient, by study, PatientID or voxels: {', '.join(group)}" for group in people.groups]
    return [*same, *people.notes, *(patient.mix_up for patient in inventory.usable if patient.mix_up)]


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
    """One line for each slice that cannot be decoded, or whose values are unlike its series."""
    everything = list(inventory.all_series())
    judges = [SliceJudge(series, "upscale") for series in everything]
    slices = [(number, index) for number, series in enumerate(everything) for index in range(len(series.slices))]
    failures: list[str] = []
    for number, index in console.track(slices, total=len(slices), what="Decoding slices"):
        series = everything[number]
        try:
            found = read_slice(series, index, assume_hu=assume_hu)
        except ReadError as error:
            failures.append(str(error))
            continue
        if not assume_hu:
            failures += [f"{series.path}: {defect.detail}" for defect in judges[number].defects(index, found)]
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
    return " ".join(filter(None, (series.description, tail, series.phase)))


def _left_out(excluded: Excluded) -> tuple[str, ...]:
    return str(excluded.path), str(excluded.num_slices), excluded.reason


def _excluded(inventory: Inventory) -> tuple[Excluded, ...]:
    return (*inventory.excluded, *(excluded for patient in inventory.patients for excluded in patient.excluded))


def _summary(inventory: Inventory) -> str:
    series = list(inventory.all_series())
    slices = sum(len(entry.slices) for entry in series)
    words = [
        f"{counted(len(inventory.usable), 'patient')} with {len(series)} usable series, {counted(slices, 'slice')}"
    ]
    without = [patient for patient in inventory.patients if not patient.series]
    empty = [patient.patient_id for patient in without if not (patient.excluded or patient.ignored)]
    others = [patient.patient_id for patient in without if patient.patient_id not in empty]
    if others:
        words.append(f"without usable CT: {', '.join(others)}")
    if empty:
        words.append(f"empty folders: {', '.join(empty)}")
    left_out = sum(excluded.num_slices for excluded in _excluded(inventory))
    if left_out:
        words.append(f"{counted(left_out, 'image')} left out")
    ignored = sum((Counter(patient.ignored) for patient in inventory.patients), Counter(inventory.ignored))
    if ignored:
        words.append("ignored: " + ", ".join(f"{count} {what}" for what, count in sorted(ignored.items())))
    if ZIP in ignored:
        words.append("give a zip archive itself to look into it")
    if not (inventory.patients or left_out or ignored):
        words.append("the folder is empty")
    return "; ".join(words)


CONFIG = "preprocess_config.yaml"
PLACES = frozenset({"root", "out_dir"})
"""Flags that are left out of it without names."""
SERIES_COLUMNS = ("patient", "series", "slices", "size", "spacing mm", "new size", "new mm", "result")


@dataclass(frozen=True, kw_only=True)
class Preprocess(HUOptions):
    """Resample every CT series below a root in plane to one pixel spacing, as DICOM.

    Runs again where it stopped; the originals are only read.

    ctsr preprocess --root EXAMS

    ctsr preprocess --root EXAMS --out_dir D:/SR/preprocessed_data --target_spacing 0.7
    """

    root: Path
    """One folder per patient, whatever lies below; or a zip archive of such folders."""
    out_dir: Path = Path("preprocessed_data")
    """Receives the same tree, patient folders with the suffix `pp`, and the two logs."""
    target_spacing: float = 0.8
    """In-plane pixel spacing in mm."""
    antialias: bool = True
    """Low-pass where pixels get coarser; without it, plain bilinear."""
    compress: Compression = "none"
    """Compress the results without loss; jpegls is smallest, rle is read everywhere."""
    no_names: bool = False
    """Write hashes in place of patients' names, UIDs and paths into the names of folders and files, the logs and the
    configuration; DICOM headers keep the patient."""
    workers: Annotated[int | None, tyro.conf.arg(aliases=["--jobs"])] = None
    """Processes; as many as there are cores when left out."""
    dask: str | None = None
    """Address of a dask scheduler, tcp://host:8786, whose workers do the work; they must see the same files."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when any series failed."""
        from ctsr.preprocess import preprocess

        root, out_dir = resolve_path(self.root, progress=console), native_path(self.out_dir)
        with unpacked(root, progress=console) as source:
            report = preprocess(
                source,
                out_dir,
                target_spacing=self.target_spacing,
                antialias=self.antialias,
                assume_hu=self.assume_hu,
                compress=self.compress,
                correction=self.hu_correction,
                no_names=self.no_names,
                workers=self.workers,
                dask=self.dask,
                progress=console,
            )
        config = {name: value for name, value in resolved(self).items() if not (self.no_names and name in PLACES)}
        write_atomically(out_dir / CONFIG, yaml.safe_dump(config, sort_keys=False))
        show(console, report, out_dir)
        return int(report.failed > 0)


def show(console: Console, report: "PreprocessReport", out_dir: Path) -> None:
    """The table of series, the counts, and where the results are."""
    resampled = [_cells(row) for row in report.rows if not row.skipped]
    if resampled:
        console.table(f"Resampled series in {out_dir}", SERIES_COLUMNS, resampled)
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
        for series in (series for patient in patients.usable for series in patient.series):
            for warning in check(series, "split"):
                console.note(f"warning: {warning}")
        split = split_patients(patients.ids, self.seed, together=patients.people.groups, mix_ups=patients.mix_ups)
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
        if path != split_file(Path("splits")):
            console.print(f"other commands take it with --split_json {path}")
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
