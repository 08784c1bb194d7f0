"""What a viewer shows: series, model, degradation and window, settled before anything is computed.

A path is looked up as a series, with the patient id that an evaluation uses and the reasons to read it with care.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from ctsr import __version__
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.dicom import patient_id_in
from ctsr.documents import patient_names
from ctsr.errors import MissingInputError, SeriesError, UsageError
from ctsr.evaluate import DRAWN, ConditionsSource
from ctsr.evaluate.methods import BASELINES, LINEAR, Baseline, ModelUnderTest, method_names
from ctsr.exams import scan, scan_patient
from ctsr.hashing import pseudonym, with_names
from ctsr.hu import AS_READ, DEFAULT_RANGE, PRESETS, HUCorrection, HURange, MetricWindow, choose_window
from ctsr.infer import EngineRequest, Int8Support
from ctsr.infer.conditions import STRENGTHS
from ctsr.metrics import METRICS
from ctsr.models.interpolation import LinearFilter
from ctsr.paths import resolve_path
from ctsr.quantization.acceptance import check_on_series
from ctsr.reporting import SILENT, Progress, Silent, listed
from ctsr.series import PatientExams, Series, check
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.tuning import strength_of
from ctsr.viewer import PlaneName, ViewOptions
from ctsr.viewer.images import INTERPOLATIONS, PANELS, PanelName
from ctsr.viewer.roi_metrics import Caveat, find_baselines, find_caveats
from ctsr.viewer.samplers import RecordedEvaluation, check_blur, read_summary


@dataclass(frozen=True)
class FoundSeries:
    """Series that can be shown."""

    series: tuple[Series, ...]
    first: int
    """Index of the longest series inside the given folder."""


def find_series(
    path: Path,
    *,
    known: Collection[str] = (),
    assume_hu: bool = False,
    correction: HUCorrection = AS_READ,
    command: Literal["view", "upscale"] = "view",
    progress: Progress = SILENT,
) -> FoundSeries:
    """Find the series of the patient or patients to which a folder or file belongs.

    A folder inside a patient's folder means that patient. Patient ids come from the log of a preprocessed root, else
    from folder names that the model or an evaluation knows, else from a folder named like the header's PatientID,
    above the given one or directly in it, else from the given folder's name.

    Args:
        path: a patient, a folder inside one, a root of patients, or a NIfTI file.
        known: patient ids of a checkpoint's split or an evaluation.
        assume_hu: also show series without rescale slope and intercept.
        correction: applied to the values of every series.
        command: the command that the series must be fit for.
        progress: receives warnings and the series that were left out.

    Raises:
        MissingInputError: there is no series to show.
    """
    path = path.resolve()
    exams = tuple(_exams(path, known, correction, progress))
    usable = tuple(_usable((series for patient in exams for series in patient.series), command, assume_hu, progress))
    for patient in exams:
        for excluded in patient.failures():
            progress.note(f"left out: {excluded.text}")
    if not usable:
        left_out = [f"{left.path.name}: {left.reason}" for patient in exams for left in patient.excluded]
        reasons = listed(list(dict.fromkeys(left_out)), REASONS)
        raise MissingInputError(f"{path}: no CT series to show{f' ({reasons})' if reasons else ''}")
    inside = [i for i, series in enumerate(usable) if series.path.resolve().is_relative_to(path)]
    return FoundSeries(usable, max(inside or range(len(usable)), key=lambda i: len(usable[i].slices)))


def _exams(path: Path, known: Collection[str], correction: HUCorrection, progress: Progress) -> Iterator[PatientExams]:
    patient = _patient_of(path, known)
    if patient is not None:
        yield scan_patient(patient[0], patient_id=patient[1], correction=correction)
    elif path.is_dir() and (patient_names(path) or any(child.name in known for child in path.iterdir())):
        yield from scan(path, patient_ids=patient_names(path), correction=correction, progress=progress).patients
    else:
        yield from _by_header(path, scan_patient(path, correction=correction), correction, progress)


def _patient_of(path: Path, known: Collection[str]) -> tuple[Path, str] | None:
    """Folder and id of the patient to which `path` belongs; None where neither log nor known names tell."""
    places = (path, *path.parents)
    for place in places:
        if name := patient_names(place.parent).get(place.name):
            return place, name
    return next(((place, place.name) for place in places if place.name in known), None)


def _by_header(path: Path, alone: PatientExams, correction: HUCorrection, progress: Progress) -> Iterator[PatientExams]:
    """Patients according to the images' PatientID, where no folder name is known."""
    owners: set[str] = set()
    for series in alone.series:
        if not series.is_volume and (owner := patient_id_in(series.slices[0].path)):
            owners.add(owner)
    if len(owners) > 1:
        yield from scan(path, correction=correction, progress=progress).patients
        return
    if path.is_dir() and any(child.is_dir() and child.name in owners for child in path.iterdir()):
        # A root with one patient, whose folder bears the PatientID.
        yield from scan(path, correction=correction, progress=progress).patients
        return
    named = next((place for place in path.parents if place.name in owners), None)
    yield alone if named is None else scan_patient(named, correction=correction)


def _usable(
    found: Iterator[Series], command: Literal["view", "upscale"], assume_hu: bool, progress: Progress
) -> Iterator[Series]:
    for series in found:
        try:
            for warning in check(series, command, assume_hu=assume_hu):
                progress.note(f"warning: {warning}")
        except SeriesError as error:
            progress.note(f"left out: {error}")
        else:
            yield series


T = TypeVar("T")

DEFAULT_PRESET = "soft_tissue"
"""Window where neither options nor an evaluation name one."""
MAX_NAMES = 5
REASONS = 3
"""Why there is nothing to show, that a message gives before it says how many more there are."""
"""Patients that a message lists."""


@dataclass(frozen=True, eq=False)
class ViewerState:
    """Series, model, degradation and window of a viewer."""

    series: tuple[Series, ...]
    first: int
    model: ModelUnderTest | None
    scale: int
    sampler: DegradationSampler
    window: MetricWindow
    evaluated: RecordedEvaluation | None = None
    plane: PlaneName = "axial"
    index: int | None = None
    conditions: ConditionsSource = DRAWN
    """What a conditional model is told of LR."""
    notes: tuple[str, ...] = ()
    """Warnings that the page shows."""
    caveats: tuple[tuple[Caveat, ...], ...] = ()
    """For each series, reasons to read its figures with care."""
    baselines: Mapping[PanelName, Baseline] = field(default_factory=lambda: INTERPOLATIONS)
    """What is compared with HR beside SR."""
    strength: UpscaleOptions | None = None
    """What SR of images as they are is made with at first; None where LR is made from the images."""
    names: bool = True
    """Whether patients and series are called by their names; else by hashes."""

    def warnings(self, number: int) -> list[str]:
        """What is unusual about a series as a whole, to go where its pictures and numbers go."""
        series, command = self.series[number], "view" if self.strength is None else "upscale"
        if not self.names:
            series = replace(series, defects=tuple(replace(each, detail=each.nameless) for each in series.defects))
        return [line.removeprefix(f"{series.path}: ") for line in check(series, command, assume_hu=True)]

    def shown_failure(self, why: str) -> str:
        """Why something could not be read, as the page says it: it names a file, and so a patient."""
        return why if self.names or not why else "it cannot be read; without `no_names` the page says why"

    def shown(self, name: str) -> str:
        """A patient's name or a UID as page, pictures and CSV files show it."""
        return name if self.names else pseudonym(name)

    @property
    def hu_range(self) -> HURange:
        """HU that the network sees as [-1, 1]."""
        return self.model.hu_range if self.model else DEFAULT_RANGE

    @property
    def panels(self) -> tuple[PanelName, ...]:
        """Panels to show: no SR without a model, no HR of images as they are."""
        if self.strength is not None:
            return ("Source", "Bicubic" if self.strength.wanted_slice_spacing is None else "Cubic", "SR")
        shown = {"LR", *self.baselines, "HR", *(["SR"] if self.model else [])}
        return tuple(panel for panel in PANELS if panel in shown)

    @property
    def methods(self) -> dict[PanelName, str]:
        """Panels that are compared with HR → their names in tables and CSV files, as in an evaluation."""
        if self.strength is not None:
            return {}
        methods: dict[PanelName, str] = {}
        for panel in self.panels:
            if panel == "SR" and self.model:
                methods[panel] = method_names([self.model])[0]
            elif (baseline := self.baselines.get(panel)) is not None:
                methods[panel] = LINEAR if isinstance(baseline, LinearFilter) else BASELINES[baseline]
        return methods

    def as_dict(self) -> dict[str, Any]:
        """JSON values from which the page builds itself."""
        base = self.sampler
        return {
            "version": __version__,
            "scale": self.scale,
            "hu_range": [self.hu_range.low, self.hu_range.high],
            "presets": {name: [window.center, window.width] for name, window in PRESETS.items()},
            "window": [self.window.window.center, self.window.window.width],
            "plane": self.plane,
            "index": self.index,
            "panels": self.panels,
            "methods": self.methods,
            "metrics": {
                m.name: {"unit": m.unit, "better": m.better, "group": m.group} for m in METRICS.values() if m.function
            },
            "series": [_series_dict(number, series, self) for number, series in enumerate(self.series)],
            "first": self.first,
            "model": _model_dict(self.model),
            "evaluation": _evaluation_dict(self.evaluated),
            "conditions": self.conditions.sentence if self.model and self.model.conditional else "",
            "degradation": base.degradation.as_flags() | {"sampling": base.sampling, "deg_seed": base.deg_seed},
            "strength": _strength_dict(self.strength, self.model),
            "notes": list(self.notes) if self.names else [],  # each names a patient or a path
            "caveats": [list(map(asdict, found)) for found in self.caveats],
        }


def _series_dict(number: int, series: Series, state: ViewerState) -> dict[str, Any]:
    return {
        "number": number,
        "patient": state.shown(series.patient_id),
        "uid": state.shown(series.series_uid),
        # What an operator typed may be a name, and so may that of a file.
        "description": series.title if state.names else f"series {number + 1}",
        "slices": len(series.slices),
        "rows": series.rows,
        "columns": series.columns,
        "pixel_spacing": series.pixel_spacing,
        "step": series.slice_step,
        "thickness": series.slice_thickness,
        "kernel": series.kernel,
        "scanner": series.scanner,
        "body_part": series.body_part,
        "warnings": state.warnings(number),
    }


def _model_dict(model: ModelUnderTest | None) -> dict[str, Any] | None:
    if model is None:
        return None
    opened = model.model
    return {
        "name": model.name,
        "path": str(opened.path),
        "architecture": str(opened.architecture),
        "device": str(model.device),
        "engine": model.engine_name,
        "sha256": opened.sha256,
    }


def _strength_dict(options: UpscaleOptions | None, model: ModelUnderTest | None) -> dict[str, Any] | None:
    """For sliders and their named places; None where LR is made from the images."""
    if options is None or model is None:
        return None
    spacing = options.wanted_slice_spacing
    return {
        # Between slices nothing is removed unless it is asked for.
        **(asdict(strength_of(options)) if spacing is None else {"denoise": options.denoise or 0.0, "sharpen": 0.0}),
        "limit_noise": options.limit_noise,
        "conditional": model.conditional,
        "slice_spacing": spacing,
        "pixel_spacing": options.wanted_pixel_spacing,
        "between_flags": _between_flags(options),
        "named": {name: asdict(strength) for name, strength in STRENGTHS.items()},
    }


def _between_flags(options: UpscaleOptions) -> str:
    """What `ctsr upscale` is told of slices between slices."""
    names = ("slice_spacing", "isotropic", "slice_profile")
    given = {name: getattr(options, name) for name in names}
    return " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)


def _evaluation_dict(evaluated: RecordedEvaluation | None) -> dict[str, Any] | None:
    if evaluated is None:
        return None
    return {"tag": evaluated.window_tag, "window": [evaluated.window.center, evaluated.window.width]}


@dataclass(frozen=True, eq=False)
class ViewRequest:
    """Arguments of `prepare`."""

    path: Path
    model: ModelUnderTest | None
    degradation: Degradation
    options: ViewOptions
    given: frozenset[str] = frozenset()
    """Names of the flags that were given, to report those that an evaluation overrules."""
    int8: Int8Support | None = None
    """Opens the network if the precision is int8."""


def _children(folder: Path) -> list[str]:
    return [child.name for child in folder.iterdir()] if folder.is_dir() else []


def prepare(request: ViewRequest, progress: Progress = SILENT) -> ViewerState:
    """Find the series and settle engine, window and degradation.

    Raises:
        MissingInputError: there is nothing to show.
        UsageError: the evaluation is for another scale, or there is no such engine.
        DomainError: the degradation blurs too much.
    """
    options, model = request.options, request.model
    if options.native and model is None:
        raise UsageError("`native` shows super-resolution of images as they are: it needs a model")
    path = resolve_path(request.path, progress=progress)
    summary = None if options.eval_summary is None else resolve_path(options.eval_summary, progress=progress)
    evaluated = None if summary is None else read_summary(summary)
    known = set[str]()
    nearby = (path.name, *(place.name for place in path.absolute().parents), *_children(path))
    for split in ((model.split if model else None) or {}, {"evaluated": evaluated.patients} if evaluated else {}):
        known.update(*with_names(split, nearby).values())
    recorder = _NoteRecorder(progress)
    found = find_series(
        path,
        known=known,
        assume_hu=options.assume_hu,
        correction=options.hu_correction,
        command="upscale" if options.native else "view",
        progress=recorder,
    )
    sampler = _sampler(request, evaluated, progress)
    if evaluated and not any(evaluated.has_patient(series.patient_id) for series in found.series):
        names = listed(evaluated.patients, MAX_NAMES)
        recorder.note(
            f"none of these patients was evaluated ({names} were): their LR is drawn with the evaluation's settings"
        )
    return ViewerState(
        series=found.series,
        first=found.first,
        model=_on_engine(request, found.series, progress),
        scale=1 if options.wants_slices_between else sampler.degradation.scale,
        sampler=sampler,
        window=_window(options, evaluated),
        evaluated=evaluated,
        plane=options.plane,
        index=options.index,
        conditions=_conditions(request, evaluated, progress),
        baselines=find_baselines(path, found.series, model, sampler, options, evaluated, progress=progress),
        notes=tuple(recorder.notes),
        caveats=find_caveats(found.series, model, native=options.native, shown=pseudonym if options.no_names else str),
        strength=options.upscale_options,
        names=not options.no_names,
    )


def _on_engine(request: ViewRequest, series: Sequence[Series], progress: Progress) -> ModelUnderTest | None:
    """The model on the requested engine; int8 and bf16 are checked on the series to be shown."""
    options, model = request.options, request.model
    if model is None:
        return None
    asked = EngineRequest(options.chosen_engine, options.precision, str(model.device), request.int8)
    check = check_on_series(model.model, asked, series, assume_hu=options.assume_hu)
    return model.on_engine(asked, check, progress)


class _NoteRecorder(Silent):
    """Forwards progress and keeps the notes, which the page shows too."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.notes: list[str] = []

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        yield from self._progress.track(items, total=total, what=what)

    def note(self, message: str) -> None:
        self.notes.append(message)
        self._progress.note(message)


def _sampler(request: ViewRequest, evaluated: RecordedEvaluation | None, progress: Progress) -> DegradationSampler:
    options, degradation = request.options, request.degradation
    check_blur(degradation.sigma_range[1], degradation.blur_kernel)
    sampler = DegradationSampler(degradation, options.degradation_sampling, options.deg_seed, options.deg_seed_mode)
    if evaluated is None:
        return sampler
    recorded = evaluated.sampler
    if recorded.degradation.scale != degradation.scale:
        raise UsageError(
            f"`eval_summary` is of an evaluation at ×{recorded.degradation.scale}, but the model is for "
            f"×{degradation.scale}; give the evaluated model"
        )
    flags, recorded_flags = _flags(sampler), _flags(recorded)
    overruled = [name for name in flags if name in request.given and flags[name] != recorded_flags[name]]
    if overruled:
        progress.note(f"warning: `eval_summary` overrules {', '.join(f'`{name}`' for name in overruled)}")
    return recorded


def _conditions(request: ViewRequest, evaluated: RecordedEvaluation | None, progress: Progress) -> ConditionsSource:
    """Those of the evaluation where there is one.

    Raises:
        UsageError: others than the drawn ones are asked for, and there is no model that is told anything.
    """
    wanted, model = request.options.conditions_source, request.model
    if evaluated is not None:
        if "conditions" in request.given and wanted != evaluated.conditions:
            progress.note("warning: `eval_summary` overrules `conditions`")
        return evaluated.conditions
    if wanted.kind != "drawn" and not (model and model.conditional):
        raise UsageError(f"`conditions` {wanted}: no model here is told the blur and noise of its input")
    return wanted


def _flags(sampler: DegradationSampler) -> Mapping[str, object]:
    return sampler.degradation.as_flags() | {
        "degradation_sampling": sampler.sampling,
        "deg_seed": sampler.deg_seed,
        "deg_seed_mode": sampler.seed_mode,
    }


def _window(options: ViewOptions, evaluated: RecordedEvaluation | None) -> MetricWindow:
    given = options.preset, options.window_center, options.window_width
    if given != (None, None, None):
        return choose_window(DEFAULT_RANGE, *given)
    if evaluated is not None:
        return MetricWindow(evaluated.window, evaluated.window_tag)
    return choose_window(DEFAULT_RANGE, DEFAULT_PRESET)
