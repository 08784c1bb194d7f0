"""What SR is compared with; metrics and ROI statistics, computed as an evaluation computes them; caveats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ctsr.checkpoint import unusual
from ctsr.data.datasets import open_exams, trained_on
from ctsr.data.hu_cache import default_store
from ctsr.degrade import DegradationSampler
from ctsr.documents import PREPROCESSING_LOG, patient_names
from ctsr.errors import UsageError
from ctsr.evaluate import DEFAULT_BASELINES
from ctsr.evaluate.methods import Baseline, ModelUnderTest, fit_linear_baseline
from ctsr.evaluate.slice_metrics import Domain, MetricEvaluator
from ctsr.hashing import is_same_person, pseudonym
from ctsr.hu import HURange, MetricWindow, Window
from ctsr.metrics import MetricValue, of_group
from ctsr.models.interpolation import LinearFilter
from ctsr.preprocess.manifest import SeriesRow, read_log
from ctsr.reporting import SILENT, Progress
from ctsr.series import Series
from ctsr.viewer import ViewOptions
from ctsr.viewer.images import COARSE, PANELS, PanelImage, PanelName
from ctsr.viewer.samplers import RecordedEvaluation, StaleRequestError

MAX_DEPTH = 4
"""Folders above the one shown in which training patients are looked for."""

METRICS = (*of_group("fidelity"), *of_group("hu"))
"""Metrics of the table: those that need nothing but the two images."""


@dataclass(frozen=True)
class PixelRect:
    """A rectangle of HR pixels, or the ellipse in it."""

    top: int
    left: int
    rows: int
    columns: int
    is_ellipse: bool = False
    """Only what lies in the ellipse that fits in, for statistics."""

    def inside(self, image: npt.NDArray[Any], factors: tuple[int, int] = (1, 1)) -> npt.NDArray[Any]:
        """The pixels of an image whose own are `factors` times larger: (pixels,).

        Those that the rectangle touches; of an ellipse, those of them whose centre is in it.
        """
        cropped = self.crop(image, factors)
        if not self.is_ellipse:
            return cropped.ravel()
        (row_factor, column_factor), (rows, columns) = factors, cropped.shape
        y = (self.top // row_factor + np.arange(rows) + 0.5) * row_factor
        x = (self.left // column_factor + np.arange(columns) + 0.5) * column_factor
        down = (y - self.top - self.rows / 2) / (self.rows / 2)
        across = (x - self.left - self.columns / 2) / (self.columns / 2)
        return cropped[down[:, None] ** 2 + across[None, :] ** 2 <= 1]

    def crop(self, image: npt.NDArray[Any], factors: tuple[int, int] = (1, 1)) -> npt.NDArray[Any]:
        """Crop an image whose pixels are `factors` (rows, columns) times larger to the pixels that are touched."""
        row_factor, column_factor = factors
        columns = slice(self.left // column_factor, -(-(self.left + self.columns) // column_factor))
        return image[self.touched(row_factor), columns]

    def touched(self, factor: int) -> slice:
        """The rows that are touched of an image whose own are `factor` times larger."""
        return slice(self.top // factor, -(-(self.top + self.rows) // factor))

    def without_rows(self, kept: npt.NDArray[np.bool_]) -> "PixelRect":
        """The rectangle in an image from which all rows but the `kept` ones were removed."""
        top = int(kept[: self.top].sum())
        rows = int(kept[self.top : self.top + self.rows].sum())
        return PixelRect(top, self.left, rows, self.columns)


def measure(
    images: dict[PanelName, PanelImage],
    methods: Mapping[PanelName, str],
    rect: PixelRect | None,
    window: Window,
    hu_range: HURange,
    is_cancelled: Callable[[], bool],
) -> dict[str, dict[str, MetricValue]]:
    """Metrics of each method whose image is complete, by the method's name.

    Args:
        images: by panel, HR among them.
        methods: panels to compare with HR → their names in tables and CSV files.
        rect: part of the image to measure; all of it if None.
        window: intensity window of the fidelity metrics.
        hu_range: the model's, to which HU metrics clip both images.
        is_cancelled: called before each method.

    Raises:
        StaleRequestError: `is_cancelled` returned True.
    """
    reference = images["HR"]
    # Rows without a slice have nothing to compare.
    kept = ~reference.gaps
    if rect is not None:
        rect = rect.without_rows(kept)
    hr_hu = _cropped(reference.values[kept], rect)
    domain = Domain(MetricWindow(window, "as shown"))
    judge = MetricEvaluator(hu_range, (domain,), METRICS)
    measured: dict[str, dict[str, MetricValue]] = {}
    for panel, method in methods.items():
        image = images.get(panel)
        if image is None or not image.complete:
            continue
        if is_cancelled():
            raise StaleRequestError
        sr = torch.from_numpy(np.ascontiguousarray(_cropped(image.values[kept], rect)))
        (measured[method],) = judge(sr[None, None], hr_hu)[domain]
    return measured


@dataclass(frozen=True)
class Coverage:
    """How much of the reference the metrics' ranges cover."""

    in_window: float
    """Share of HR pixels whose HU lie inside the window."""
    outside_range: float
    """Share of HR pixels beyond the model's HU range, which HU metrics clip."""
    constant: bool
    """All HR pixels look the same in the window: metrics taken there mean nothing."""


def coverage(reference: PanelImage, rect: PixelRect | None, window: Window, hu_range: HURange) -> Coverage:
    """Coverage of HR, or of a rectangle in it, by window and HU range."""
    kept = ~reference.gaps
    hu = _cropped(reference.values[kept], rect.without_rows(kept) if rect else None)
    if not hu.size:
        return Coverage(0.0, 0.0, constant=True)
    shown = window.to_01(hu)
    in_window = float(np.mean((hu >= window.low) & (hu <= window.high)))
    outside = float(np.mean((hu < hu_range.low) | (hu > hu_range.high)))
    return Coverage(in_window, outside, constant=bool(shown.min() == shown.max()))


def _cropped(image: npt.NDArray[np.float32], rect: PixelRect | None) -> npt.NDArray[np.float32]:
    return image if rect is None else rect.crop(image)


def statistics(
    images: dict[PanelName, PanelImage], rect: PixelRect, scale: tuple[int, int], hu_range: HURange
) -> dict[PanelName, tuple[float, float, int]]:
    """Mean and standard deviation in HU and the number of pixels inside a region, for each panel with values.

    A panel some of whose rows in the region are not computed yet is left out: a mean of the others would not be the
    region's. LR is measured in its own pixels, those that the rectangle touches.

    Args:
        images: by panel.
        rect: in HR pixels.
        scale: size of LR pixels in HR pixels, along rows and columns.
        hu_range: the model's.
    """
    found: dict[PanelName, tuple[float, float, int]] = {}
    for panel in PANELS:
        image = images.get(panel)
        factors = scale if panel in COARSE else (1, 1)
        if image is None or image.missing[rect.touched(factors[0])].any():
            continue
        inside = rect.inside(image.hu(hu_range).astype(np.float64), factors)
        inside = inside[np.isfinite(inside)]
        if inside.size:
            found[panel] = (float(inside.mean()), float(inside.std()), int(inside.size))
    return found


@dataclass(frozen=True)
class Caveat:
    """One reason why figures of a series mislead."""

    kind: Literal["trained", "domain", "upsampled"]
    text: str
    """A sentence for the user."""


def find_caveats(
    series: Sequence[Series],
    model: ModelUnderTest | None,
    *,
    native: bool = False,
    shown: Callable[[str], str] = str,
) -> tuple[tuple[Caveat, ...], ...]:
    """Caveats of each series as reference and, with a model, as its input.

    Args:
        series: that are shown.
        model: makes SR.
        native: the series themselves are the model's input, and nothing is a reference.
        shown: what a patient of a name is called.

    Raises:
        ReadError: the log of a preprocessed root cannot be read.
    """
    if native and model:
        return tuple(_as_input(each, model) for each in series)
    logs: dict[Path, tuple[SeriesRow, ...]] = {}
    found: list[tuple[Caveat, ...]] = []
    for each in series:
        root = next((place for place in each.path.parents if (place / PREPROCESSING_LOG).is_file()), None)
        if root is not None and root not in logs:
            logs[root] = read_log(root)
        of_model = _of_model(each, model, shown) if model else []
        found.append((*of_model, *(_of_reference(each, root, logs[root]) if root else [])))
    return tuple(found)


def _as_input(series: Series, model: ModelUnderTest) -> tuple[Caveat, ...]:
    if model.model.architecture.is_through_plane:
        return ()  # it is told how the slices lie: what is unusual about them comes with what it is told
    reasons = unusual(series, model.model.meta)
    return tuple(Caveat("domain", f"{reason[:1].upper()}{reason[1:]}.") for reason in reasons)


def _of_model(series: Series, model: ModelUnderTest, shown: Callable[[str], str]) -> list[Caveat]:
    found: list[Caveat] = []
    by_name = trained_on([series.patient_id], model.split or {}, model.also_trained_on)
    if by_name or is_same_person(model.trained_identities, series.identities):
        text = f"The model was trained on patient {shown(series.patient_id)}: figures of SR are not a test."
        found.append(Caveat("trained", text))
    # The model's domain is a matter of its input: LR, whose pixels are larger by the scale.
    row_mm, column_mm = series.pixel_spacing
    lr = replace(series, pixel_spacing=(row_mm * model.scale, column_mm * model.scale))
    for reason in unusual(lr, model.model.meta):
        sentence = reason[:1].upper() + reason[1:]
        found.append(Caveat("domain", f"LR {reason}." if reason.startswith("pixel spacing") else f"{sentence}."))
    return found


def _of_reference(series: Series, root: Path, log: Sequence[SeriesRow]) -> list[Caveat]:
    for row in log:
        is_dicom_match = row.new_series_uid == series.series_uid if row.new_series_uid else False
        resampled = root / row.output / Path(row.source).name
        is_volume_match = bool(row.output) and series.path in {resampled, Path(f"{resampled}.nii.gz")}
        if row.upsampled and row.orig_row_mm and (is_dicom_match or is_volume_match):
            text = (
                f"HR was upsampled by preprocessing, {row.orig_row_mm:.3g} → {row.new_row_mm:.3g} mm: it has less "
                "detail than its pixels suggest, and every method comes out better."
            )
            return [Caveat("upsampled", text)]
    return []


def find_baselines(
    path: Path,
    series: Sequence[Series],
    model: ModelUnderTest | None,
    sampler: DegradationSampler,
    options: ViewOptions,
    evaluated: RecordedEvaluation | None,
    *,
    progress: Progress = SILENT,
) -> dict[PanelName, Baseline]:
    """What SR is compared with, by the panel that shows it; the linear filter is the evaluation's where it has one.

    Args:
        path: that is shown; training patients are looked for there and in the folders above.
        series: that are shown.
        model: makes SR, and knows its training patients.
        sampler: what LR is made with.
        options: name the baselines, or leave them to the evaluation.
        evaluated: the evaluation that is reproduced, if any.
        progress: receives notes on what is left out and on the fit.

    Raises:
        UsageError: the linear filter is asked for, and there is nothing to fit it to.
    """
    recorded = evaluated.linear if evaluated else None
    found: dict[PanelName, Baseline] = {}
    for name in options.baselines or (evaluated.baselines if evaluated else DEFAULT_BASELINES):
        match name:
            case "bilinear":
                found["Bilinear"] = name
            case "bicubic":
                found["Bicubic"] = name
            case "lanczos":
                found["Lanczos"] = name
            case "linear" if evaluated and not recorded and not options.baselines:
                progress.note("warning: `eval_summary` holds no weights of its linear filter, which is left out")
            case "linear":
                found["Linear"] = recorded or _fitted(path, series, model, sampler, options, progress)
    return found


def _fitted(
    path: Path,
    series: Sequence[Series],
    model: ModelUnderTest | None,
    sampler: DegradationSampler,
    options: ViewOptions,
    progress: Progress,
) -> LinearFilter:
    """Fitted as in an evaluation of the patient shown, to training patients of the same root."""
    split = (model.split if model else None) or {}
    trained = set(split.get("train", ()))
    place = path.absolute()
    for root in (place, *place.parents[:MAX_DEPTH]):
        folders = [child.name for child in root.iterdir()] if root.is_dir() else []
        names = {*folders, *patient_names(root).values()}
        names |= {pseudonym(name) for name in names}  # models that were passed on know hashes
        if model is None or not trained & names:
            continue
        present = {part: list(filter(names.__contains__, patients)) for part, patients in split.items()}
        exams = open_exams(
            [root], checkpoint_split=present, allow_train_patients=True, correction=options.hu_correction
        )
        shown = {each.patient_id for each in series}
        # Of several patients none is left out: whichever is looked at, the filter stays the same.
        return fit_linear_baseline(
            exams,
            tuple(shown) if len(shown) == 1 else (),
            options.store or default_store(),
            sampler,
            model.hu_range,
            assume_hu=options.assume_hu,
            progress=progress,
        ).filter
    raise UsageError(
        "`baselines` linear is fitted on patients that the model was trained on, and none of them lies beside "
        f"{path}; name `eval_summary` of an evaluation that has it, or leave linear out"
    )
