"""What the phantoms are drawn and degraded with."""

from dataclasses import dataclass

from ctsr.degrade import Degradation, DegradationParams
from ctsr.errors import DomainError
from ctsr.physics.transfer import REACH

__all__ = ["PhysicsSettings", "conditions"]


@dataclass(frozen=True)
class PhysicsSettings:
    """Contrasts, doses and sizes of a study of phantoms."""

    contrasts_hu: tuple[float, ...] = (-1000.0, -100.0, -30.0, 30.0, 100.0, 1000.0)
    """Of the disc against its ground: air, fat, faint lesions, contrast agent, bone."""
    doses: tuple[float, ...] | None = None
    """Fractions of full dose; None takes both ends of the degradation's range."""
    diameters_mm: tuple[float, ...] = (3.0, 5.0, 8.0)
    """Of the discs to be detected."""
    faint_hu: float = 50.0
    """Contrasts up to here are detection tasks; beyond, every disc is seen without effort."""
    images: int = 6
    """Of each disc, and of the uniform phantom, at each dose: sub-pixel position and noise differ."""
    faint_images: int = 24
    """Of each disc up to `faint_hu`, whose edge drowns in noise otherwise."""
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
        """Of the disc, HR pixels: as long an edge as leaves room for its profile."""
        return self.size / 4

    def images_of(self, contrast_hu: float) -> int:
        """How many images of a disc are taken at each dose."""
        return self.faint_images if abs(contrast_hu) <= self.faint_hu else self.images

    @property
    def border(self) -> int:
        """HR pixels along the uniform phantom's border that no noise is measured in: filters see its end there."""
        return 16


def conditions(degradation: Degradation, doses: tuple[float, ...] | None = None) -> tuple[DegradationParams, ...]:
    """The middle of the degradation's range of blur and noise, once for each dose.

    Args:
        degradation: what the LR images of the evaluation are made with.
        doses: fractions of full dose; None takes both ends of the range. Without noise there is one condition.
    """
    sigma, noise = (sum(ends) / 2 for ends in (degradation.sigma_range, degradation.noise_sigma_range))
    if degradation.mode == "clean":
        return (DegradationParams(blur_sigma=0.0, blur_kernel=1, noise_sigma=0.0, dose=1.0),)
    kernel = degradation.kernel_for(sigma)
    optics = DegradationParams(sigma if kernel > 1 else 0.0, kernel, noise_sigma=0.0, dose=1.0)
    if degradation.mode == "blur" or noise == 0:
        return (optics,)
    chosen = sorted(set(doses or degradation.dose_factor_range))
    return tuple(DegradationParams(optics.blur_sigma, kernel, noise, dose) for dose in chosen)
