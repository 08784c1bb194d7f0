"""`evaluate`: from a model and a root to a folder of rows, statistics and plots."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ctsr import __version__
from ctsr.data.exams import open_exams
from ctsr.data.pairs import slice_pair
from ctsr.data.patches import centered_crop
from ctsr.data.store import default_store
from ctsr.degrade import Degradation, Sampler
from ctsr.errors import MissingInputError, UsageError
from ctsr.evaluate.folder import ResultFolder, result_folder
from ctsr.evaluate.methods import METHODS, reconstructions, slice_metrics
from ctsr.evaluate.model import Subject
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.plan import PlannedSlice, choose_patients, plan_slices
from ctsr.evaluate.results import write_results
from ctsr.evaluate.rows import COLUMNS, Row, RowFile, SliceRef, read_rows
from ctsr.evaluate.study import Study
from ctsr.evaluate.summary import Table, patient_level, to_json
from ctsr.evaluate.window import MetricWindow, choose_window
from ctsr.files import write_atomically
from ctsr.hu import HURange
from ctsr.paths import resolve_path
from ctsr.progress import Progress, Silent

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation."""

    folder: Path
    window: MetricWindow
    num_patients: int
    num_slices: int
    means: Table
    """Over patients, each of whom counts once."""
    failures: tuple[str, ...]
    """A line for each series that could not be used."""


def evaluate(
    subject: Subject, degradation: Degradation, options: EvaluateOptions, *, progress: Progress | None = None
) -> Evaluation:
    """Measure the model and both interpolations on every slice of a part of the split.

    Rows reach the disk slice by slice. When an evaluation is interrupted, the next one with the same model,
    settings and slices continues it, to the same result.

    Raises:
        MissingInputError: no data, or a split that names patients who are not there.
        SplitError: the model was trained on patients it is to be evaluated on.
        UsageError: the degradation is for another scale than the network.
    """
    progress = progress or Silent()
    study = prepare(subject, degradation, options, progress)
    with result_folder(options.output_dir, study.stem, _fingerprint(study)) as folder:
        write_atomically(folder.config_json, to_json(study.config()))
        rows = _measure(study, folder, progress)
        write_results(study, rows, folder)
    return Evaluation(
        folder=folder.path,
        window=study.window,
        num_patients=len(study.patients),
        num_slices=len(study.slices),
        means=patient_level(rows),
        failures=study.failures,
    )


def prepare(subject: Subject, degradation: Degradation, options: EvaluateOptions, progress: Progress) -> Study:
    """Settle everything that will be computed; decodes the series that are not in the store yet."""
    if degradation.scale != subject.scale:
        raise UsageError(f"a degradation for ×{degradation.scale} does not fit a network for ×{subject.scale}")
    window = choose_window(HURange(*options.hu_clip), options.preset, options.window_center, options.window_width)
    root = resolve_path(options.root, progress=progress)
    split_json = None if options.split_json is None else resolve_path(options.split_json, progress=progress)
    exams = open_exams([root], split_json=split_json, checkpoint_split=subject.split, progress=progress)
    progress.note(f"split: {exams.source}")
    chosen = choose_patients(exams, subject, options)
    store = options.store or default_store()
    opened = exams.part(options.split, "evaluate", store, only=chosen, assume_hu=options.assume_hu, progress=progress)
    sampler = Sampler(degradation, options.degradation_sampling, options.deg_seed, options.deg_seed_mode)
    slices = plan_slices(opened.series, chosen, sampler, options)
    if not slices:
        raise MissingInputError(
            f"{root}: no slice of the {options.split} part can be used: {'; '.join(opened.failures)}"
        )
    return Study(subject, options, window, sampler, exams.source, slices, opened.failures)


def _measure(study: Study, folder: ResultFolder, progress: Progress) -> list[Row]:
    """The rows of every slice in order; those that an interrupted run has left are taken over."""
    kept = _kept(study, folder.metrics_csv) if folder.continued else {}
    if folder.continued:
        progress.note(f"continuing {folder.path}: {len(kept)} of {len(study.slices)} slices are done")
    rows: list[Row] = []
    done = [row for own in kept.values() for row in own]
    with RowFile(folder.metrics_csv, study.window, study.subject.hu_range, done) as file:
        for planned in progress.track(study.slices, total=len(study.slices), what="Evaluating slices"):
            own = kept.get(planned.ref)
            if own is None:
                own = measure_slice(study, planned)
                file.add(own)
            rows += own
    return rows


def _kept(study: Study, metrics_csv: Path) -> dict[SliceRef, list[Row]]:
    """The slices of the plan whose rows are all there."""
    wanted = {planned.ref for planned in study.slices}
    found: dict[SliceRef, list[Row]] = {}
    for row in read_rows(metrics_csv):
        if row.slice in wanted:
            found.setdefault(row.slice, []).append(row)
    return {ref: rows for ref, rows in found.items() if tuple(row.method for row in rows) == METHODS}


def measure_slice(study: Study, planned: PlannedSlice) -> list[Row]:
    """One slice by every method; all see the same LR."""
    stored, scale = planned.stored, study.subject.scale
    pair = slice_pair(stored, planned.index, study.sampler, study.subject.hu_range)
    images = reconstructions(study.subject.generator.net, pair.lr, scale)
    reference = stored.slice_hu(planned.index)[centered_crop(stored.rows, scale), centered_crop(stored.columns, scale)]
    metrics = slice_metrics(images, reference, study.window.window, study.subject.hu_range)
    return [Row(planned.ref, method, values) for method, values in zip(METHODS, metrics, strict=True)]


def _fingerprint(study: Study) -> str:
    """Changes with everything that a row depends on; not with where the results go or what is drawn of them."""
    words = {
        "version": __version__,
        "columns": COLUMNS,
        "model": study.subject.generator.sha256,
        "device": str(study.subject.device),
        "hu_range": asdict(study.subject.hu_range),
        "window": asdict(study.window),
        "sampler": asdict(study.sampler),
        # The name of a series' folder in the store stands for the state of its files.
        "slices": [(planned.stored.folder.name, asdict(planned.ref)) for planned in study.slices],
    }
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
