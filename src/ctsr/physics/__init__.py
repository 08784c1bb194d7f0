"""Resolution, noise and detectability of methods: on phantoms sent through degradation and method, and on slices.

A network is not linear: what it makes of an edge depends on the edge's contrast and on the noise. So every number is
stated at a contrast and a dose.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ctsr.degrade import Degradation, DegradationParams, degrade_hu
from ctsr.degrade.degradation import WHOLE_SLICE_MODELS
from ctsr.errors import DomainError
from ctsr.hashing import rng_from, seed_from
from ctsr.hu import FloatArray, HURange
from ctsr.infer import SuperResolver, telling
from ctsr.physics.transfer import (
    REACH,
    DiscTask,
    EdgeProfile,
    TransferFunction,
    detectability,
    edge_profile,
    soft_disc,
    transfer_function,
)
from ctsr.quality.noise import NoiseSpectrum, PowerMap, Region, cut, homogeneous_regions, power_map, spectrum_of
from ctsr.reporting import SILENT, Progress

REFERENCE = "HR"
"""What the reference is called among the methods."""


@dataclass(frozen=True)
class TransferAt:
    """What a method leaves of an edge of one contrast at one dose."""

    method: str
    contrast_hu: float
    dose: float
    transfer: TransferFunction


@dataclass(frozen=True)
class NoiseAt:
    """The noise of a method on the uniform phantom at one dose."""

    method: str
    dose: float
    spectrum: NoiseSpectrum


@dataclass(frozen=True)
class DetectabilityAt:
    """d′ of one disc at one dose."""

    method: str
    dose: float
    diameter_mm: float
    contrast_hu: float
    d_prime: float | None
    """None where there is no noise."""


@dataclass(frozen=True)
class PhysicsSettings:
    """Contrasts, doses and sizes of a study of phantoms."""

    contrasts_hu: tuple[float, ...] = (-1000.0, -100.0, -30.0, 30.0, 100.0, 1000.0)
    """Contrast of the disc to its background: air, fat, faint lesions, contrast agent, bone."""
    doses: tuple[float, ...] | None = None
    """Fractions of full dose; None takes both ends of the degradation's range."""
    diameters_mm: tuple[float, ...] = (3.0, 5.0, 8.0)
    """Diameters of the discs to be detected."""
    faint_hu: float = 50.0
    """Contrasts up to here are detection tasks; beyond, every disc is seen without effort."""
    images: int = 6
    """Images of each disc and of the uniform phantom at each dose: sub-pixel position and noise differ."""
    faint_images: int = 24
    """Images of each disc up to `faint_hu`, whose edge drowns in noise otherwise."""
    ground_hu: float = 0.0
    """Around the disc, and in the uniform phantom: water."""
    size: int = 192
    """Rows and columns of a phantom, HR pixels."""
    region: int = 32
    """Side of the squares that the noise is measured in, HR pixels."""

    def __post_init__(self) -> None:
        if min(self.images, self.faint_images) < 1 or not self.contrasts_hu or 0 in self.contrasts_hu:
            raise DomainError("a study of phantoms needs at least one image and contrasts other than 0 HU")
        if self.size < 4 * REACH + 16 or self.size < 2 * self.border + self.region:
            raise DomainError(f"a phantom of {self.size}×{self.size} pixels is too small; use at least 128")

    @property
    def radius(self) -> float:
        """Radius of the disc, HR pixels: the longest edge that leaves room for its profile."""
        return self.size / 4

    def images_of(self, contrast_hu: float) -> int:
        """How many images of a disc are taken at each dose."""
        return self.faint_images if abs(contrast_hu) <= self.faint_hu else self.images

    @property
    def border(self) -> int:
        """HR pixels along the uniform phantom's border that no noise is measured in: filters see its end there."""
        return 16


@dataclass(frozen=True)
class PhysicsStudy:
    """Everything that was measured on phantoms, and with what."""

    methods: tuple[str, ...]
    pixel_mm: float
    """Pixel size of HR and SR."""
    scale: int
    lr_nyquist_per_mm: float
    """Beyond it, LR itself holds nothing: a method guesses, or repeats."""
    conditions: tuple[DegradationParams, ...]
    """One for each dose."""
    lr_noise_hu: tuple[float, ...]
    """Standard deviation of the noise of LR in each condition."""
    settings: PhysicsSettings
    seed: int
    transfer: tuple[TransferAt, ...]
    noise: tuple[NoiseAt, ...]
    detectability: tuple[DetectabilityAt, ...]


@dataclass(frozen=True)
class _Chain:
    """Phantom → LR."""

    degradation: Degradation
    hu_range: HURange

    def lr(self, hr_hu: FloatArray, params: DegradationParams, noise_seed: int) -> FloatArray:
        return degrade_hu(
            hr_hu,
            params,
            noise_seed,
            scale=self.degradation.scale,
            hu_range=self.hu_range,
            antialias=self.degradation.antialias,
        )


def study(
    super_resolvers: Mapping[str, SuperResolver],
    degradation: Degradation,
    hu_range: HURange,
    pixel_mm: float,
    *,
    seed: int = 42,
    settings: PhysicsSettings | None = None,
    progress: Progress = SILENT,
) -> PhysicsStudy:
    """Measure transfer, noise and detectability of methods side by side, all on the same LR images.

    Args:
        super_resolvers: name → method that enlarges by the degradation's scale; see `ctsr.infer.by_network`.
        degradation: how LR is made; the middle of its ranges is used, at both ends of its doses.
        hu_range: of the networks.
        pixel_mm: side of an HR pixel.
        seed: positions and noise follow from it, whatever the order of methods.
        settings: contrasts, doses, number of images.
        progress: receives the number of LR images done.

    Raises:
        DomainError: no method, a phantom that the scale does not divide, a method that does not enlarge by it, or no
            contrast within `hu_range`.
    """
    settings = _within(hu_range, settings or PhysicsSettings(), progress)
    scale, params = degradation.scale, conditions(degradation, settings.doses)
    if not super_resolvers or settings.size % scale:
        raise DomainError(
            f"a study needs a method, and a phantom that scale {scale} divides; got {settings.size} pixels"
        )
    chain = _Chain(degradation, hu_range)
    total = len(params) * (settings.images + sum(map(settings.images_of, settings.contrasts_hu)))
    steps = iter(progress.track(range(total), total=total, what="phantoms"))
    transfer, noise = list[TransferAt](), list[NoiseAt]()
    for condition in params:
        for contrast in settings.contrasts_hu:
            profiles = _profiles(super_resolvers, chain, condition, contrast, settings, seed, steps)
            transfer += [
                TransferAt(name, contrast, condition.dose, transfer_function(found, pixel_mm))
                for name, found in profiles.items()
            ]
        noise += _noise(super_resolvers, chain, condition, settings, seed, pixel_mm, steps)
    next(steps, None)
    return PhysicsStudy(
        methods=tuple(super_resolvers),
        pixel_mm=pixel_mm,
        scale=scale,
        lr_nyquist_per_mm=1 / (2 * pixel_mm * scale),
        conditions=params,
        lr_noise_hu=tuple(condition.noise_std * hu_range.hu_per_unit for condition in params),
        settings=settings,
        seed=seed,
        transfer=tuple(transfer),
        noise=tuple(noise),
        detectability=tuple(_detectability(transfer, noise, settings)),
    )


def _within(hu_range: HURange, settings: PhysicsSettings, progress: Progress) -> PhysicsSettings:
    """The settings with the contrasts that networks of this range see whole: others would be fainter than they say.

    Raises:
        DomainError: there are none.
    """
    seen = [c for c in settings.contrasts_hu if hu_range.low <= settings.ground_hu + c <= hu_range.high]
    if not seen or not hu_range.low <= settings.ground_hu <= hu_range.high:
        raise DomainError(f"no contrast of a phantom lies within {hu_range.low:g} … {hu_range.high:g} HU")
    if lost := [f"{c:+g}" for c in settings.contrasts_hu if c not in seen]:
        progress.note(f"warning: phantoms without discs of {', '.join(lost)} HU, which the models' range cuts off")
    return replace(settings, contrasts_hu=tuple(seen))


def conditions(degradation: Degradation, doses: tuple[float, ...] | None = None) -> tuple[DegradationParams, ...]:
    """The middle of the degradation's range of blur and noise, once for each dose.

    Of several ways to downsample, and of noise models that phantoms can have, the first.

    Args:
        degradation: what the LR images of the evaluation are made with.
        doses: fractions of full dose; None takes both ends of the range. Without noise there is one condition.
    """
    sigma, noise = sum(degradation.sigma_range) / 2, sum(degradation.noise_sigma_range) / 2
    downsampling = degradation.applied_downsampling[0]
    if degradation.mode == "clean":
        return (DegradationParams(0.0, 1, noise_sigma=0.0, dose=1.0, downsampling=downsampling),)
    kernel = degradation.kernel_for(sigma)
    optics = DegradationParams(
        sigma if kernel > 1 else 0.0, kernel, noise_sigma=0.0, dose=1.0, downsampling=downsampling
    )
    if degradation.mode == "blur" or noise == 0:
        return (optics,)
    # A uniform phantom has no noise of its own, and no projections.
    model = next((name for name in degradation.noise_model if name not in WHOLE_SLICE_MODELS), "white")
    cutoff = 1.0 if model == "white" else sum(degradation.noise_cutoff_range) / 2
    noisy = replace(optics, noise_sigma=noise, noise_model=model, noise_cutoff=cutoff)
    return tuple(replace(noisy, dose=dose) for dose in sorted(set(doses or degradation.dose_factor_range)))


def phantoms_text(degradation: Degradation) -> str:
    """How phantoms are degraded, in words, and what LR of the degradation may have that they have not."""
    params = conditions(degradation)[0]
    parts = [f"{params.downsampling} downsampling"]
    others = [f"{name} downsampling" for name in degradation.applied_downsampling if name != params.downsampling]
    if params.blur_sigma:
        parts.insert(0, f"a blur of σ {params.blur_sigma:.3g} HR pixels")
    if params.has_noise:
        end = "" if params.noise_model == "white" else f" up to {params.noise_cutoff:.3g} of LR's Nyquist frequency"
        parts.append(f"{params.noise_model} noise of σ {params.noise_sigma:.3g} in [-1, 1] at full dose{end}")
        others += [f"{name} noise" for name in degradation.noise_model if name != params.noise_model]
    text = f"Phantoms have {', '.join(parts)}"
    return f"{text}; slices of this evaluation may have {' and '.join(others)} instead." if others else f"{text}."


@dataclass(frozen=True, eq=False)
class NoiseSlice:
    """One slice as every method shows it."""

    reference: FloatArray
    """(rows, columns), HU."""
    images: Mapping[str, FloatArray]
    """Method → the same shape, HU."""
    padding: npt.NDArray[np.bool_] | None = None
    """True where nothing was reconstructed."""


@dataclass(frozen=True)
class NoiseStudy:
    """The noise of real slices."""

    pixel_mm: float
    slices: int
    """How many were looked at, those without a homogeneous region among them."""
    regions: tuple[tuple[Region, ...], ...]
    """Regions of each slice."""
    spectra: dict[str, NoiseSpectrum]
    """`REFERENCE` and each method; empty where no slice has a homogeneous region."""


def noise_study(
    slices: Iterable[NoiseSlice], pixel_mm: float, *, size: int = 32, most: int = 6, progress: Progress = SILENT
) -> NoiseStudy:
    """Noise power spectra over slices, which are taken one at a time.

    Args:
        slices: of one pixel size and with the same methods.
        pixel_mm: side of their pixels.
        size: side of a region, pixels.
        most: regions of a slice.
        progress: receives the number of slices done.
    """
    maps: dict[str, list[PowerMap]] = {}
    regions = list[tuple[Region, ...]]()
    for noise_slice in progress.track(slices, total=None, what="noise"):
        found = homogeneous_regions(noise_slice.reference, size=size, most=most, padding=noise_slice.padding)
        regions.append(found)
        if not found:
            continue
        for name, image in {REFERENCE: noise_slice.reference, **noise_slice.images}.items():
            # Weighted by regions, so that every region counts alike.
            maps.setdefault(name, []).append(power_map(cut(image, found), pixel_mm) * len(found))
    count = sum(len(found) for found in regions)
    spectra = {
        name: spectrum_of([np.sum(weighted, axis=0) / count], pixel_mm, count) for name, weighted in maps.items()
    }
    return NoiseStudy(pixel_mm, len(regions), tuple(regions), spectra)


def _profiles(
    methods: Mapping[str, SuperResolver],
    chain: _Chain,
    params: DegradationParams,
    contrast: float,
    settings: PhysicsSettings,
    seed: int,
    steps: Iterator[int],
) -> dict[str, list[EdgeProfile]]:
    """The edge in each image of a disc, by method."""
    found: dict[str, list[EdgeProfile]] = {name: [] for name in methods}
    shape = (settings.size, settings.size)
    for image in range(settings.images_of(contrast)):
        next(steps, None)
        # Not the dose: the same discs are seen at every dose.
        shift = rng_from(seed, "disc", repr(contrast), image).uniform(-0.5, 0.5, 2) * chain.degradation.scale
        center = (float((settings.size - 1) / 2 + shift[0]), float((settings.size - 1) / 2 + shift[1]))
        hr = settings.ground_hu + contrast * soft_disc(shape, center, settings.radius)
        lr = chain.lr(hr, params, seed_from(seed, "disc", repr(contrast), repr(params.dose), image))
        for name, method in methods.items():
            found[name].append(
                edge_profile(_checked(name, telling(method, params)(lr), shape), center, settings.radius)
            )
    return found


def _noise(
    methods: Mapping[str, SuperResolver],
    chain: _Chain,
    params: DegradationParams,
    settings: PhysicsSettings,
    seed: int,
    pixel_mm: float,
    steps: Iterator[int],
) -> list[NoiseAt]:
    """The noise in the uniform phantom, by method."""
    shape = (settings.size, settings.size)
    uniform = np.full(shape, settings.ground_hu)
    regions = _grid(settings)
    maps: dict[str, list[PowerMap]] = {name: [] for name in methods}
    for image in range(settings.images):
        next(steps, None)
        lr = chain.lr(uniform, params, seed_from(seed, "uniform", repr(params.dose), image))
        for name, method in methods.items():
            maps[name].append(power_map(cut(_checked(name, telling(method, params)(lr), shape), regions), pixel_mm))
    count = len(regions) * settings.images
    return [NoiseAt(name, params.dose, spectrum_of(found, pixel_mm, count)) for name, found in maps.items()]


def _grid(settings: PhysicsSettings) -> list[Region]:
    places = range(settings.border, settings.size - settings.border - settings.region + 1, settings.region)
    return [Region(row, column, settings.region) for row in places for column in places]


def _checked(name: str, sr: FloatArray, shape: tuple[int, int]) -> FloatArray:
    if sr.shape != shape:
        raise DomainError(f"{name} made {sr.shape} of a phantom that should become {shape}; check its scale")
    return sr


def _detectability(
    transfer: list[TransferAt], noise: list[NoiseAt], settings: PhysicsSettings
) -> Iterator[DetectabilityAt]:
    spectra = {(entry.method, entry.dose): entry.spectrum for entry in noise}
    for entry in transfer:
        if abs(entry.contrast_hu) > settings.faint_hu:
            continue
        for diameter in settings.diameters_mm:
            task = DiscTask(diameter, entry.contrast_hu)
            d_prime = detectability(task, entry.transfer, spectra[entry.method, entry.dose])
            yield DetectabilityAt(entry.method, entry.dose, diameter, entry.contrast_hu, d_prime)


__all__ = [
    "REFERENCE",
    "DetectabilityAt",
    "DiscTask",
    "EdgeProfile",
    "NoiseAt",
    "NoiseSlice",
    "NoiseSpectrum",
    "NoiseStudy",
    "PhysicsSettings",
    "PhysicsStudy",
    "Region",
    "TransferAt",
    "TransferFunction",
    "conditions",
    "detectability",
    "edge_profile",
    "homogeneous_regions",
    "noise_study",
    "phantoms_text",
    "power_map",
    "soft_disc",
    "spectrum_of",
    "study",
    "transfer_function",
]
