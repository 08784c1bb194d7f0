"""Evaluation of networks between slices: thin series are made thick, brought back, and compared with themselves.

What is measured is `ThroughPlaneSuperResolver` on the thick slices, as `ctsr upscale --slice_spacing` applies it to a
series. Rows reach the disk case by case; an interrupted evaluation is continued.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ctsr import __version__
from ctsr.documents import as_type, parse_json
from ctsr.errors import CtsrError, DomainError, ReadError, UsageError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.methods import ModelUnderTest, method_names
from ctsr.evaluate.output_folder import (
    DIRECTIONS,
    Direction,
    OutputFolder,
    PlaneColumns,
    PlaneRef,
    PlaneRow,
    RowWriter,
    SliceCase,
    read_plane_rows,
    to_csv,
)
from ctsr.evaluate.plan import domains_of, one_or_list, tag_of
from ctsr.evaluate.runner import FAILURES
from ctsr.evaluate.slice_metrics import Domain, MetricEvaluator
from ctsr.evaluate.slices import chosen_planes, plane_of_volume
from ctsr.evaluate.statistics import People
from ctsr.evaluate.thin_series import SHOWN, as_shown, series_name, series_state, thin_series
from ctsr.files import write_atomically, write_json
from ctsr.hallucination.lesion_insertion import LesionTrial, draw_between, trials_between
from ctsr.hashing import digest, find_people, rng_from
from ctsr.hu import HURange
from ctsr.infer import Engine, EngineRequest, Int8Support, TorchEngine
from ctsr.metrics import choose_metrics
from ctsr.metrics.perceptual import PerceptualMetrics, choose_perceptual
from ctsr.physics.transfer import slice_sensitivity
from ctsr.quantization.acceptance import check_on_series
from ctsr.reporting import SILENT, Progress, listed, one_line
from ctsr.series import Series
from ctsr.series_quality import read_judged_volume
from ctsr.through_plane import AlongZ, Block, SliceProfile, ThickenedVolume, thicken
from ctsr.through_plane.super_resolver import ThroughPlaneSuperResolver
from ctsr.volume import Volume

BASELINES: Mapping[AlongZ, str] = {
    "linear": "Interpolation (Linear)",
    "cubic": "Interpolation (Cubic)",
    "lanczos": "Interpolation (Lanczos)",
}
"""Names of the interpolations along the slices' normal in rows, tables and plots."""
DEFAULT_METRICS = ("PSNR", "SSIM", "LPIPS", "hu", "tissue")
"""Where none are asked for."""
CASES_JSON = "cases.json"

CaseKey: TypeAlias = tuple[str, str, SliceCase]
"""Patient, series and case: UIDs alone may be alike, as the names of NIfTI files are."""
Planes: TypeAlias = dict[tuple[Direction, int], npt.NDArray[np.float32]]
"""Direction and index of a plane → HU."""


@dataclass(frozen=True)
class CaseRecord:
    """What else is known of one series and case; its rows hold the metrics."""

    patient_id: str
    series_uid: str
    thickness_mm: float
    distance_mm: float
    step_mm: float
    """Between the slices of the truth."""
    thin_slices: int
    """Slices of the thin series, the reference."""
    thick_slices: int
    back_hu: dict[str, float]
    """Method → mean |difference| of what thickening makes of its result and the thick slices."""
    seconds: dict[str, float]
    """Method → time it took."""
    disc_width_mm: dict[str, float | None] = field(default_factory=dict[str, float | None])
    """Method → width along z (FWHM) of a thin disc; empty without `physics`."""
    lesions: list[LesionTrial] = field(default_factory=list[LesionTrial])
    """Put in between slices; empty without `hallucination`."""
    problem: str = ""
    """Why the case could not be measured; empty where it was."""
    num_rows: int = 0
    """Of `metrics.csv`."""
    undone: list[str] = field(default_factory=list[str])
    """A line for each study, and for the picture, that failed; the same evaluation tries the case again."""

    @property
    def case(self) -> SliceCase:
        """How its thick slices were made."""
        return SliceCase(self.thickness_mm, self.distance_mm)

    @property
    def key(self) -> CaseKey:
        """What it shares with its rows, and with nothing else."""
        return self.patient_id, self.series_uid, self.case


@dataclass(frozen=True, eq=False)
class MadeCase:
    """One series and case, to look at."""

    series: Series
    case: SliceCase
    thick: ThickenedVolume
    images: Mapping[str, Planes]
    """By method."""


@dataclass(frozen=True, eq=False)
class ThroughPlanePlan:
    """What will be computed."""

    models: tuple[ModelUnderTest, ...]
    options: EvaluateOptions
    domains: tuple[Domain, ...]
    metrics: tuple[str, ...]
    perceptual: PerceptualMetrics
    series: tuple[Series, ...]
    """Thin enough to be truth, called as files call them."""
    failures: tuple[str, ...]
    own_names: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Patient and series as files call them → the series' own name, by which its lesions are drawn."""

    @property
    def hu_range(self) -> HURange:
        """HU range of the first model."""
        return self.models[0].hu_range

    @property
    def people(self) -> People:
        """As `ctsr.evaluate.statistics.patient_level` takes it."""
        identities: dict[str, set[str]] = {}
        for series in self.series:
            identities.setdefault(series.patient_id, set()).update(series.identities)
        return find_people(identities).leaders

    @property
    def cases(self) -> tuple[SliceCase, ...]:
        """In the order they were asked for."""
        pairs = zip(self.options.thickness, self.options.distance, strict=True)
        return tuple(dict.fromkeys(SliceCase(thickness, distance) for thickness, distance in pairs))

    @property
    def engines(self) -> dict[str, tuple[Engine, HURange]]:
        """Name of a model in rows → what runs it, and the HU it is made for."""
        found: dict[str, tuple[Engine, HURange]] = {}
        for name, model in zip(method_names(self.models), self.models, strict=True):
            found[name] = model.engine or TorchEngine(model.model.net), model.hu_range
        return found

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of rows, tables and plots."""
        return (*BASELINES.values(), *method_names(self.models))

    @property
    def columns(self) -> PlaneColumns:
        """Columns of `metrics.csv`."""
        return PlaneColumns(self.metrics, self.domains, self.hu_range, self.perceptual.pi_kind)

    @property
    def stem(self) -> str:
        """The folder's name without its time."""
        first, *others = self.models
        more = f"+{len(others)}" if others else ""
        return f"through_plane__{first.run_name}{more}__{tag_of(self.domains)}"

    def config(self) -> dict[str, Any]:
        """Every option with its value, in the form of a configuration file."""
        paths = one_or_list([str(model.model.path) for model in self.models])
        return self.options.shown_config() | {"model_path": paths, "device": str(self.models[0].device)}

    @property
    def fingerprint(self) -> str:
        """A hash of everything that rows depend on."""
        options = self.options
        content = {
            "version": __version__,
            "metrics": self.metrics,
            "models": [model.model.sha256 for model in self.models],
            "engine": [model.engine_name for model in self.models],
            "domains": [asdict(domain) for domain in self.domains],
            "learned": {name: dict(found) for name, found in self.perceptual.provenance.items()},
            "planes": options.planes,
            "cases": [asdict(case) for case in self.cases],
            "studies": [options.hallucination, options.physics, options.study_slices, options.deg_seed],
            "correction": options.hu_correction.text,
            "series": [series_state(series) for series in self.series],
        }
        return digest(json.dumps(content, sort_keys=True)).hex()


@dataclass(frozen=True, eq=False)
class ThroughPlaneResult:
    """Rows and records of a finished evaluation."""

    folder: Path
    plan: ThroughPlanePlan
    rows: tuple[PlaneRow, ...]
    records: tuple[CaseRecord, ...]
    failures: tuple[str, ...]
    """A line for each patient, series or case that could not be used, wholly or in part."""


def plan_through_plane(
    models: Sequence[ModelUnderTest],
    options: EvaluateOptions,
    progress: Progress = SILENT,
    *,
    int8: Int8Support | None = None,
) -> ThroughPlanePlan:
    """Find the thin series that can be truth.

    Args:
        models: between slices.
        options: the roots, the thick slices and what is measured.
        progress: receives notes.
        int8: opens the network where the precision is int8.

    Raises:
        MissingInputError: there is none.
        UsageError: models for different HU; an engine that is not installed.
    """
    if len({model.hu_range for model in models}) != 1:
        raise UsageError("models are compared on the same HU range: evaluate them one by one")
    asked = options.metrics if options.metrics != ("default",) else DEFAULT_METRICS
    metrics = choose_metrics(asked)
    device = str(models[0].device)
    request = EngineRequest(options.engine, options.precision, device, int8)
    perceptual = choose_perceptual(
        metrics, options.lpips, options.cache, backend=options.perceptual_backend, progress=progress
    )
    own, failures = thin_series(models, options, progress)
    series = tuple(as_shown(each, options) for each in own)
    assume_hu = options.assume_hu
    return ThroughPlanePlan(
        tuple(
            model.on_engine(request, check_on_series(model.model, request, series, assume_hu=assume_hu), progress)
            for model in models
        ),
        options,
        domains_of(options),
        metrics,
        perceptual,
        series,
        failures,
        {(shown.patient_id, series_name(shown)): series_name(each) for shown, each in zip(series, own, strict=True)},
    )


def measure_through_plane(
    plan: ThroughPlanePlan,
    folder: OutputFolder,
    progress: Progress = SILENT,
    draw: Callable[[MadeCase], object] | None = None,
) -> ThroughPlaneResult:
    """Compute the cases that an interrupted evaluation has not left; `draw` is shown each of them.

    Raises:
        CtsrError: not one case could be measured.
    """
    records, rows = _kept(plan, folder) if folder.continued else ([], [])
    done = {record.key for record in records}
    failures = list(plan.failures)
    with RowWriter(folder.metrics_csv, plan.columns, rows) as writer:
        for series in plan.series:
            name = series_name(series)
            todo = [case for case in plan.cases if (series.patient_id, name, case) not in done]
            try:
                assume_hu = plan.options.assume_hu
                volume = read_judged_volume(series, "evaluate", progress, assume_hu=assume_hu) if todo else None
                for case in todo:
                    assert volume is not None, "read where there is something to do"
                    record, own = _measure(plan, series, volume, case, draw, progress)
                    writer.add(own)
                    rows += own
                    records.append(record)
                    failures += record.undone
                    write_json(folder.path / CASES_JSON, [asdict(found) for found in records])
            except FAILURES as error:
                failures.append(f"{series.patient_id}: {one_line(error)}")
    _put_in_order(plan, folder, records, rows)
    problems = [f"{record.patient_id}: {record.problem}" for record in records if record.problem]
    for problem in problems:
        progress.note(f"left out: {problem}")
    if not rows:
        raise CtsrError(f"no series could be measured: {listed([*failures, *problems], SHOWN)}")
    folder.finished = len(failures) == len(plan.failures)
    return ThroughPlaneResult(folder.path, plan, tuple(rows), tuple(records), tuple(failures))


def _put_in_order(
    plan: ThroughPlanePlan, folder: OutputFolder, records: list[CaseRecord], rows: list[PlaneRow]
) -> None:
    """Sort records and rows, which cases that an earlier run had lost end, as the plan has them; intervals need it."""
    keys = [(series.patient_id, series_name(series), case) for series in plan.series for case in plan.cases]
    place = {key: number for number, key in enumerate(keys)}
    found = [record.key for record in records]
    records.sort(key=lambda record: place[record.key])
    rows.sort(key=lambda row: place[key_of(row)])
    if found != [record.key for record in records]:
        write_atomically(folder.metrics_csv, to_csv(rows, plan.columns))
        write_json(folder.path / CASES_JSON, [asdict(record) for record in records])


def super_resolve_thick(engine: Engine, hu_range: HURange, case: ThickenedVolume, *, skip_air: bool = True) -> Block:
    """The wanted slices as `ctsr upscale --slice_spacing` makes them of the thick ones, (wanted, rows, columns), HU."""
    resolver = ThroughPlaneSuperResolver(engine, hu_range, skip_air)
    made = resolver(case.pixels, case.grid, noise_hu=0.0)
    return np.stack([pixels.hu for pixels in made])


def _measure(
    plan: ThroughPlanePlan,
    series: Series,
    volume: Volume,
    case: SliceCase,
    draw: Callable[[MadeCase], object] | None,
    progress: Progress,
) -> tuple[CaseRecord, list[PlaneRow]]:
    """One series and case."""
    step = volume.grid.spacing[0]
    record = CaseRecord(series.patient_id, series_name(series), case.thickness_mm, case.distance_mm, step, 0, 0, {}, {})
    try:
        thick = thicken(volume.hu, step, SliceProfile(case.thickness_mm), case.distance_mm, volume.padding)
    except DomainError as error:
        title = "" if plan.options.no_names else f"{series.title}: "
        return replace(record, problem=f"{title}{error}"), []
    planes = chosen_planes(thick.truth, plan.options.planes)
    images: dict[str, Planes] = {}
    who = f"{series.patient_id}, {case.text}"
    for method in progress.track(plan.methods, total=len(plan.methods), what=who):
        started = time.perf_counter()
        result = _result(plan, method, thick)
        record.seconds[method] = round(time.perf_counter() - started, 2)
        record.back_hu[method] = float(np.abs(thick.again(result) - thick.thick[1:-1]).mean())
        images[method] = {place: plane_of_volume(result, *place) for place in planes}
    truth = {place: plane_of_volume(thick.truth, *place) for place in planes}
    rows = list(_rows(plan, series, case, images, truth, (step, *series.pixel_spacing)))
    beside: dict[str, Callable[[], object]] = {
        "physics and lesions": lambda: _study(plan, record, thick, (step, *series.pixel_spacing), progress)
    }
    if draw is not None:
        beside["picture"] = lambda: draw(MadeCase(series, case, thick, images))
    for what, make in beside.items():
        try:
            make()
        except (*FAILURES, ValueError) as error:  # the numbers are worth more than what stands beside them
            record.undone.append(f"{who}: no {what}: {one_line(error) or type(error).__name__}")
    counts = {"thin_slices": thick.grid.num_wanted, "thick_slices": thick.grid.count, "num_rows": len(rows)}
    return replace(record, **counts), rows


def _study(
    plan: ThroughPlanePlan,
    record: CaseRecord,
    thick: ThickenedVolume,
    spacing: tuple[float, float, float],
    progress: Progress,
) -> None:
    """Lesions put in, and the width of a thin disc, where they are asked for."""
    # Phantoms and parts of slices are all body.
    methods = {method: partial(_result, plan, method, skip_air=False) for method in plan.methods}
    if plan.options.physics:
        grid = thick.grid
        widths = {
            name: slice_sensitivity(make, grid.profile, grid.distance, spacing[0]) for name, make in methods.items()
        }
        record.disc_width_mm.update(widths)  # of all methods or of none
    if plan.options.hallucination:
        own_name = plan.own_names.get((record.patient_id, record.series_uid), record.series_uid)
        rng = rng_from(plan.options.deg_seed, "lesions", own_name)
        lesions = draw_between(thick, spacing, rng)
        if not lesions:
            progress.note(
                f"{record.patient_id}, {record.case.text}: no lesion fits between the slices, none was put in"
            )
        record.lesions.extend(trials_between(record.patient_id, thick, lesions, methods, spacing))


def _result(plan: ThroughPlanePlan, method: str, thick: ThickenedVolume, *, skip_air: bool = True) -> Block:
    for kind, name in BASELINES.items():
        if name == method:
            return thick.interpolated(kind)
    return super_resolve_thick(*plan.engines[method], thick, skip_air=skip_air)


def _rows(
    plan: ThroughPlanePlan,
    series: Series,
    case: SliceCase,
    images: Mapping[str, Planes],
    truth: Planes,
    spacing: Sequence[float],
) -> Iterator[PlaneRow]:
    evaluator = MetricEvaluator(
        plan.hu_range,
        plan.domains,
        plan.metrics,
        plan.perceptual.functions,
        pi_with_ma=plan.perceptual.pi_kind == "ma+niqe",
    )
    for (direction, index), reference in truth.items():
        position = index * spacing[DIRECTIONS.index(direction)]
        ref = PlaneRef(
            series.patient_id, series_name(series), case.thickness_mm, case.distance_mm, direction, index, position
        )
        stack = np.stack([plan.hu_range.to_unit(images[method][direction, index]) for method in plan.methods])
        for domain, found in evaluator(torch.from_numpy(stack)[:, None], reference).items():
            for method, values in zip(plan.methods, found, strict=True):
                yield PlaneRow(ref, method, values, domain.window.tag, domain.mask)


# What an interrupted evaluation has left


def _kept(plan: ThroughPlanePlan, folder: OutputFolder) -> tuple[list[CaseRecord], list[PlaneRow]]:
    """Whole cases; rows of a case that was interrupted, or lacks what stands beside them, are computed again."""
    try:
        records = as_type(parse_json((folder.path / CASES_JSON).read_bytes()), list[CaseRecord])
    except (OSError, ReadError):
        return [], []
    rows = read_plane_rows(folder.metrics_csv, plan.metrics)
    found = Counter(map(key_of, rows))
    # Records reach the disk before rows do: a power cut may have taken some of a case's.
    records = [record for record in records if found[record.key] == record.num_rows and not record.undone]
    whole = {record.key for record in records}
    return records, [row for row in rows if key_of(row) in whole]


def key_of(row: PlaneRow) -> CaseKey:
    """Of the record that a row belongs to."""
    return row.slice.patient_id, row.slice.series_uid, row.slice.case
