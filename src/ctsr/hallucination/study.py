"""All checks for invented and lost detail, of several methods on slices with a reference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation
from ctsr.errors import DomainError
from ctsr.hallucination.lesion_insertion import LesionRow, LesionSpec, LesionTrial, lesion_table, lesion_trials
from ctsr.hallucination.slice_checks import SFRC, Consistency, SFRCSettings, consistency, sfrc
from ctsr.hashing import rng_from
from ctsr.hu import FloatArray, HURange
from ctsr.infer import SuperResolver, telling
from ctsr.progress import SILENT, Progress

WITHIN_LR = 0.8
"""Of LR's Nyquist frequency: interpolations, which invent nothing, lose correlation with HR only beyond it."""


@dataclass(frozen=True, eq=False)
class NamedPair:
    """A slice with its reference and name."""

    name: str
    """`patient series slice`, unique: for results and seeds."""
    pair: SlicePair
    pixel_mm: float
    """Side of an HR pixel."""


@dataclass(frozen=True)
class HallucinationSettings:
    """Settings of the checks."""

    patch_lr: int = 16
    """Side of the consistency's patches, LR pixels."""
    sfrc: SFRCSettings = field(default_factory=SFRCSettings)
    lesions: LesionSpec | None = field(default_factory=LesionSpec)
    """None inserts no lesions."""


@dataclass(frozen=True)
class SliceChecks:
    """The checks of one slice by one method."""

    slice_name: str
    method: str
    consistency: Consistency
    sfrc: SFRC
    lr_nyquist_per_mm: float
    """Where it is below sFRC's limit, interpolation is flagged, too: LR holds nothing up to the limit."""
    flagged_within_lr: int
    """Flagged patches that lose correlation below `WITHIN_LR` of LR's Nyquist frequency, where LR held the truth."""


@dataclass(frozen=True)
class MethodSummary:
    """A method over all slices."""

    method: str
    mean_abs_hu: float
    """Of the consistency residual, mean over slices."""
    p95_hu: float
    """Its 95th percentile, mean over slices."""
    worst_slice: str
    """With the highest mean residual."""
    worst_mean_abs_hu: float
    noise_mean_abs_hu: float
    """See `Consistency`; mean over slices."""
    worst_patch_in_noise: float | None
    """The patch mean farthest from 0, in standard deviations of its noise; None where LR has no noise."""
    worst_patch_hu: float | None
    """The patch mean farthest from 0; None where no slice holds a patch."""
    judged: int
    """sFRC patches with structure."""
    flagged: int
    flagged_share: float | None
    flagged_within_lr: int
    """See `SliceChecks`."""


@dataclass(frozen=True)
class HallucinationStudy:
    """The result of a study."""

    methods: tuple[str, ...]
    scale: int
    seed: int
    settings: HallucinationSettings
    summaries: tuple[MethodSummary, ...]
    slices: tuple[SliceChecks, ...]
    lesions: tuple[LesionRow, ...]
    trials: tuple[LesionTrial, ...]


def check_slice(
    sr_hu: FloatArray,
    subject: NamedPair,
    method: str,
    *,
    degradation: Degradation,
    hu_range: HURange,
    settings: HallucinationSettings | None = None,
) -> SliceChecks:
    """Check one SR slice for LR-consistency and by sFRC.

    Args:
        sr_hu: the shape of the pair's HR, HU.
        subject: HR and LR.
        method: its name.
        degradation: of LR.
        hu_range: of the pair.
        settings: see `HallucinationSettings`.
    """
    settings, pair = settings or HallucinationSettings(), subject.pair
    params = pair.draw.params
    residual = consistency(
        sr_hu,
        hu_range.to_hu(pair.lr[0, 0].cpu().numpy()),
        params,
        scale=degradation.scale,
        hu_range=hu_range,
        antialias=degradation.antialias,
        patch=settings.patch_lr,
    )
    hr = np.clip(pair.hr_hu, hu_range.low, hu_range.high)
    noise = params.noise_std * hu_range.hu_per_unit
    found = sfrc(sr_hu, hr, subject.pixel_mm, noise_hu=noise, settings=settings.sfrc)
    within = within_lr(subject.pixel_mm, degradation.scale)
    return SliceChecks(
        slice_name=subject.name,
        method=method,
        consistency=residual,
        sfrc=found,
        lr_nyquist_per_mm=within / WITHIN_LR,
        flagged_within_lr=sum(patch.frequency_per_mm <= within for patch in found.flagged),
    )


def study(
    subjects: Iterable[NamedPair],
    super_resolvers: Mapping[str, SuperResolver],
    *,
    degradation: Degradation,
    hu_range: HURange,
    seed: int = 42,
    settings: HallucinationSettings | None = None,
    progress: Progress = SILENT,
) -> HallucinationStudy:
    """Run every check on every slice and method, one slice at a time.

    Args:
        subjects: slices, from `ctsr.data.pairs.slice_pair`.
        super_resolvers: name → method; see `ctsr.infer.by_network`.
        degradation: of the pairs.
        hu_range: of the pairs and the networks.
        seed: of the lesions, with the slice's name, independent of the order of slices and methods.
        settings: see `HallucinationSettings`.
        progress: receives the progress by slices.

    Raises:
        DomainError: no method or no slice, or a method that does not enlarge by the degradation's scale.
    """
    settings = settings or HallucinationSettings()
    checks, trials = list[SliceChecks](), list[LesionTrial]()
    check = partial(check_slice, degradation=degradation, hu_range=hu_range, settings=settings)
    attempt = partial(lesion_trials, degradation=degradation, hu_range=hu_range)
    for subject in progress.track(subjects, total=None, what="hallucination"):
        lr = hu_range.to_hu(subject.pair.lr[0, 0].cpu().numpy())
        params = subject.pair.draw.params
        for name, method in super_resolvers.items():
            checks.append(check(telling(method, params)(lr), subject, name))
        if settings.lesions:
            rng = rng_from(seed, "lesions", subject.name)
            lesions = settings.lesions.sample(subject.pair.hr_hu, subject.pixel_mm, rng)
            trials += attempt(subject.name, subject.pair, lesions, super_resolvers, pixel_mm=subject.pixel_mm)
    if not checks:
        raise DomainError("a study of hallucination needs at least one slice and one method")
    return HallucinationStudy(
        methods=tuple(super_resolvers),
        scale=degradation.scale,
        seed=seed,
        settings=settings,
        summaries=tuple(_summary(checks, name) for name in super_resolvers),
        slices=tuple(checks),
        lesions=tuple(lesion_table(trials)),
        trials=tuple(trials),
    )


def within_lr(pixel_mm: float, scale: int) -> float:
    """The frequency, 1/mm, up to which LR holds what HR holds: `WITHIN_LR` of its Nyquist frequency."""
    return WITHIN_LR / (2 * pixel_mm * scale)


def _summary(checks: Sequence[SliceChecks], method: str) -> MethodSummary:
    own = [check for check in checks if check.method == method]
    worst = max(own, key=lambda check: check.consistency.mean_abs_hu)
    patches = [check.consistency.worst_patch for check in own if check.consistency.worst_patch]
    in_noise = [patch.in_noise for patch in patches if patch.in_noise is not None]
    judged = sum(check.sfrc.judged for check in own)
    flagged = sum(len(check.sfrc.flagged) for check in own)
    return MethodSummary(
        method=method,
        mean_abs_hu=float(np.mean([check.consistency.mean_abs_hu for check in own])),
        p95_hu=float(np.mean([check.consistency.p95_hu for check in own])),
        worst_slice=worst.slice_name,
        worst_mean_abs_hu=worst.consistency.mean_abs_hu,
        noise_mean_abs_hu=float(np.mean([check.consistency.noise_mean_abs_hu for check in own])),
        worst_patch_in_noise=max(in_noise, key=abs) if in_noise else None,
        worst_patch_hu=max((patch.mean_hu for patch in patches), key=abs) if patches else None,
        judged=judged,
        flagged=flagged,
        flagged_share=flagged / judged if judged else None,
        flagged_within_lr=sum(check.flagged_within_lr for check in own),
    )
