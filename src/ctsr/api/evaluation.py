"""Metrics of an image against a reference, and evaluation of a model on a volume or on a folder of patients."""

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import torch

from ctsr.api import ArrayHU, Spacing, given, only_where
from ctsr.api.images import PathLike
from ctsr.api.models import ModelLike, load_model
from ctsr.checkpoint import Model, of_kind
from ctsr.checkpoint.model_lookup import DEFAULT_SLICE_MODEL
from ctsr.data.pairs import image_pair
from ctsr.degrade import Degradation, DegradationSampler
from ctsr.degrade.degradation import Mode
from ctsr.documents import check_words
from ctsr.errors import DomainError, UsageError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import Evaluation
from ctsr.evaluate.evaluation import evaluate as evaluate_folder
from ctsr.evaluate.methods import BASELINES, ModelUnderTest, method_names, reconstruct
from ctsr.evaluate.planes import ThroughPlaneResult
from ctsr.evaluate.slice_metrics import Domain, MaskName, MetricEvaluator
from ctsr.evaluate.through_plane import evaluate_through_plane
from ctsr.hu import DEFAULT_RANGE, HURange, choose_window
from ctsr.infer.engine import pick_device
from ctsr.metrics import METRICS, choose_metrics
from ctsr.models.interpolation import Interpolation
from ctsr.reporting import WARN, Progress
from ctsr.upscale import DEFAULT_MODEL, SAME_PLACE
from ctsr.volume import Volume

Means: TypeAlias = dict[str, float | None]
"""Metric → mean over slices; None where no slice has a value."""
MeansByMethod: TypeAlias = dict[str, Means]
"""Method → metric → mean over slices."""
DEFAULT_METRICS = ("PSNR", "SSIM", "MAE_HU", "RMSE_HU", "BIAS_HU")


def metrics(
    image: Volume | ArrayHU,
    reference: Volume | ArrayHU,
    *,
    names: Sequence[str] = DEFAULT_METRICS,
    preset: str | None = None,
    window: tuple[float, float] | None = None,
    mask: MaskName = "none",
    hu_range: HURange = DEFAULT_RANGE,
) -> Means:
    """Compare an image with a reference, as `ctsr evaluate` does.

    Args:
        image: a volume, or an array in HU with the axes (row, column) or (slice, row, column); clipped to `hu_range`.
        reference: of the same shape.
        names: metrics of `ctsr.metrics.METRICS`, or groups (`fidelity`, `hu`, `tissue`, `structure`). Those that need
            weights (LPIPS, NIQE, MA, PI) are computed by `ctsr.evaluate` on folders only.
        preset: window of the metrics on [0, 1] by name: `soft_tissue`, `lung`, `bone`, …
        window: centre and width of that window in HU; by default the whole `hu_range`.
        mask: `body` confines the metrics to the body in the reference.
        hu_range: HU that models are made for.

    Returns:
        The mean over slices by name, in the unit of `ctsr.metrics.METRICS`; None where no slice has a value, such as
        a tissue that does not occur.

    Raises:
        DomainError: the shapes differ, or no window has that name.
        UsageError: an unknown metric, or one that needs weights.

    Examples:
        >>> ctsr.metrics(sr, hr, names=["PSNR", "MAE_HU"], preset="soft_tissue")
        {'PSNR': 31.2, 'MAE_HU': 9.4}
    """
    compared, target = (
        given(image, None, needs_spacing=False).volume,
        given(reference, None, needs_spacing=False).volume,
    )
    if compared.hu.shape != target.hu.shape:
        raise DomainError(f"image and reference differ in shape: {compared.hu.shape} and {target.hu.shape}")
    if isinstance(image, Volume) and isinstance(reference, Volume):
        _check_same_place(image, reference)
    evaluator = _evaluator(names, preset, window, mask, hu_range)
    found: list[Means] = []
    for hu, reference_hu in zip(compared.hu, target.hu, strict=True):
        unit = torch.from_numpy(hu_range.to_unit(hu))[None, None]
        (values,) = next(iter(evaluator(unit, reference_hu).values()))
        found.append({name: value.value for name, value in values.items()})
    return _mean(found)


@overload
def evaluate(
    source: Volume | ArrayHU,
    *,
    spacing: Spacing | None = ...,
    model: ModelLike | None = ...,
    degradation: Mode | Degradation | None = ...,
    seed: int = ...,
    names: Sequence[str] = ...,
    preset: str | None = ...,
    mask: MaskName = ...,
    baselines: tuple[Interpolation, ...] = ...,
    device: str = ...,
) -> MeansByMethod: ...


@overload
def evaluate(
    source: PathLike,
    out: PathLike,
    *,
    through_plane: Literal[True],
    model: ModelLike | None = ...,
    seed: int = ...,
    names: Sequence[str] = ...,
    preset: str | None = ...,
    mask: MaskName = ...,
    device: str = ...,
    progress: Progress = ...,
    **options: Any,
) -> ThroughPlaneResult: ...


@overload
def evaluate(
    source: PathLike,
    out: PathLike,
    *,
    through_plane: Literal[False] = ...,
    model: ModelLike | None = ...,
    degradation: Mode | Degradation | None = ...,
    seed: int = ...,
    names: Sequence[str] = ...,
    preset: str | None = ...,
    mask: MaskName = ...,
    baselines: tuple[Interpolation, ...] = ...,
    device: str = ...,
    progress: Progress = ...,
    **options: Any,
) -> Evaluation: ...


def evaluate(
    source: Volume | ArrayHU | PathLike,
    out: PathLike | None = None,
    *,
    spacing: Spacing | None = None,
    model: ModelLike | None = None,
    degradation: Mode | Degradation | None = None,
    seed: int = 42,
    names: Sequence[str] = DEFAULT_METRICS,
    preset: str | None = None,
    mask: MaskName = "none",
    baselines: tuple[Interpolation, ...] = ("bilinear", "bicubic"),
    device: str = "auto",
    progress: Progress = WARN,
    through_plane: bool = False,
    **options: Any,
) -> MeansByMethod | Evaluation | ThroughPlaneResult:
    """Degrade images, super-resolve them by a model and by interpolation, and compare with the originals.

    SR is computed by the algorithm of `ctsr.upscale`; a conditional model is told the blur and the noise that were
    drawn.

    Args:
        source: high resolution: a volume, an array in HU with the axes (row, column) or (slice, row, column), or a
            folder with one folder for each patient.
        out: where `source` is a folder: receives one folder with rows, summary, plots and report.
        spacing: mm along each axis of an array; only noise of projections depends on it.
        model: name, path, or a model of `ctsr.load_model`; by default `ctsr-x2`, with `through_plane` `ctsr-z`.
        degradation: `clean`, `blur` or `blurnoise`, or ranges of one's own; by default the model's.
        seed: of the degradation.
        names: see `ctsr.metrics`; for a folder also LPIPS, NIQE, MA and PI.
        preset: see `ctsr.metrics`.
        mask: see `ctsr.metrics`.
        baselines: interpolations to compare with: `bilinear`, `bicubic`, `lanczos`.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        progress: where `source` is a folder: told what is done; left out, what is wrong is a Python warning.
        through_plane: where `source` is a folder: measure a model between slices instead; thin series are made thick
            by pairs of ``thickness=(5, 5)`` and ``distance=(5, 3)``, mm, and brought back. `degradation` and
            `baselines` have no meaning then.
        options: where `source` is a folder: other fields of `ctsr.evaluate.EvaluateOptions`, such as
            ``split="test"``, ``max_patients=3`` or ``no_plots=True``.

    Returns:
        For a volume or an array the means over slices, method → metric → value (None where it cannot be computed).
        For a folder the evaluation: `folder`, `means` over patients, `num_patients`, `failures`; with `through_plane`
        `folder`, `rows` of planes, `records` of series and cases, `failures`.

    Raises:
        DomainError: an image smaller than the scale, or with other axes; no preset of that name.
        UsageError: an unknown metric; a degradation for another scale; `out` is missing; an argument that has no effect
            on such a `source`.
        MissingInputError: there is no such model or folder; with `through_plane`, no series thin enough.
        CheckpointError: a model in plane where one between slices is needed, or the reverse.
        SplitError: the model was trained on patients it is to be evaluated on.

    Examples:
        >>> table = ctsr.evaluate(volume, model="ctsr-x2", names=["PSNR", "MAE_HU"])
        >>> table["Model (EDSR)"]["PSNR"] > table["Interpolation (Bicubic)"]["PSNR"]
        True
        >>> evaluation = ctsr.evaluate("preprocessed_data", "eval_results", split="test")
        >>> result = ctsr.evaluate("EXAMS", "eval_results", through_plane=True, thickness=(5,), distance=(3,))
    """
    if through_plane and not (isinstance(source, str | os.PathLike) and degradation is None):
        raise UsageError("`through_plane` simulates thick slices from thin series of a folder; leave out `degradation`")
    kind = "between slices" if through_plane else "in plane"
    network = of_kind(load_model(model or (DEFAULT_SLICE_MODEL if through_plane else DEFAULT_MODEL)), kind)
    torch_device = pick_device(device)
    if torch_device.type != "cpu":  # a copy: the caller's, which later calls run too, stays where it is
        network = replace(network, net=copy.deepcopy(network.net).to(torch_device))
    tested = ModelUnderTest(network, torch_device)
    ranges = None if through_plane else _ranges(network, degradation)
    if isinstance(source, str | os.PathLike):
        if out is None:
            raise UsageError("a folder as `source` needs `out`, the folder that receives the result")
        only_where("`source` is an array", spacing=spacing)
        settings = EvaluateOptions(
            root=(Path(source),),
            output_dir=Path(out),
            metrics=(names,) if isinstance(names, str) else tuple(names),
            preset=preset,
            mask=(mask,),
            baselines=baselines,
            deg_seed=seed,
            through_plane=through_plane,
            **options,
        )
        if ranges is None:
            return evaluate_through_plane([tested], settings, progress)
        return evaluate_folder([tested], ranges, settings, progress=progress)
    assert ranges is not None, "a volume is not measured through plane"
    only_where("`source` is a folder", **dict.fromkeys(options, True), out=out)
    volume = given(source, spacing, needs_spacing=False).volume
    return _evaluate_volume(
        volume, tested, ranges, seed, _evaluator(names, preset, None, mask, network.hu_range), baselines
    )


def _check_same_place(image: Volume, reference: Volume) -> None:
    """Refuse volumes whose voxels lie elsewhere: their differences would be those of anatomy."""
    most = SAME_PLACE * min(reference.grid.spacing)
    # Both grids are even: they agree everywhere if their first voxels do, and the last ones along each axis.
    last = np.array(reference.grid.shape) - 1
    for index in (np.zeros(3), *np.diag(last)):
        corner = (float(index[0]), float(index[1]), float(index[2]))
        apart = np.subtract(image.grid.position(corner), reference.grid.position(corner))
        distance = float(np.linalg.norm(apart))
        if distance > most:
            raise DomainError(
                f"image and reference lie {distance:.4g} mm apart at voxel {index.astype(int).tolist()}; "
                "compare their arrays, `.hu`, if that is meant"
            )


def _ranges(network: Model, degradation: Mode | Degradation | None) -> Degradation:
    """What LR is made with: as asked for, else as in the model's training."""
    if isinstance(degradation, str):
        degradation = Degradation(mode=degradation, scale=network.scale)
    ranges = degradation or network.degradation
    if ranges.scale != network.scale:
        raise UsageError(f"`degradation` has scale {ranges.scale}, the model {network.scale}")
    return ranges


def _evaluate_volume(
    volume: Volume,
    tested: ModelUnderTest,
    degradation: Degradation,
    seed: int,
    evaluator: MetricEvaluator,
    baselines: tuple[Interpolation, ...],
) -> MeansByMethod:
    if min(volume.grid.shape[1:]) < tested.scale:
        raise DomainError(f"an image of shape {volume.grid.shape[1:]} is smaller than the scale {tested.scale}")
    if unknown := [kind for kind in baselines if kind not in BASELINES]:
        raise UsageError(f"`baselines` of a volume are {', '.join(BASELINES)}, got {', '.join(map(str, unknown))}")
    methods = (*(BASELINES[kind] for kind in baselines), *method_names([tested]))
    found: dict[str, list[Means]] = {method: [] for method in methods}
    sampler = DegradationSampler(degradation, deg_seed=seed, seed_mode="global")
    for index, hu in enumerate(volume.hu):
        pair = image_pair(hu, index, sampler, volume.grid.spacing[1], tested.hu_range)
        images = reconstruct([tested], pair, baselines)
        by_method = next(iter(evaluator(images, pair.hr_hu).values()))
        for method, values in zip(methods, by_method, strict=True):
            found[method].append({name: value.value for name, value in values.items()})
    return {method: _mean(slices) for method, slices in found.items()}


def _evaluator(
    names: Sequence[str],
    preset: str | None,
    window: tuple[float, float] | None,
    mask: MaskName,
    hu_range: HURange,
) -> MetricEvaluator:
    """Computes metrics that need no weights, on one window and mask.

    Raises:
        UsageError: an unknown metric, or one that needs weights.
        DomainError: no window has that name.
    """
    chosen = choose_metrics((names,) if isinstance(names, str) else names)
    weighty = [name for name in chosen if METRICS[name].function is None]
    if weighty:
        raise UsageError(
            f"{', '.join(weighty)} need weights of other networks: leave them out of `names`, or evaluate a folder"
        )
    center, width = window if window is not None else (None, None)
    domain = Domain(choose_window(hu_range, preset, center, width), mask)
    check_words(domain)
    return MetricEvaluator(hu_range, (domain,), chosen)


def _mean(slices: Sequence[Means]) -> Means:
    """The mean of each metric over the slices that have it."""
    means: Means = {}
    for name in slices[0]:
        values = [values[name] for values in slices]
        numbers = [value for value in values if value is not None]
        means[name] = float(np.mean(numbers)) if numbers else None
    return means
