"""X-ray projections of a slice and its reconstruction from them, with the noise of a dose. NumPy and SciPy only."""

from ctsr.projection.forward import (
    MU_WATER,
    Ellipse,
    FanBeam,
    ImageGrid,
    Rectangle,
    Shape,
    project_image,
    project_shapes,
    to_hu,
    to_mu,
)
from ctsr.projection.reconstruction import (
    SHARP,
    SOFT,
    Exposure,
    Kernel,
    added_noise,
    exam_dose_noise,
    expose,
    reconstruct,
    reconstruct_all,
)

__all__ = [
    "MU_WATER",
    "SHARP",
    "SOFT",
    "Ellipse",
    "Exposure",
    "FanBeam",
    "ImageGrid",
    "Kernel",
    "Rectangle",
    "Shape",
    "added_noise",
    "exam_dose_noise",
    "expose",
    "project_image",
    "project_shapes",
    "reconstruct",
    "reconstruct_all",
    "to_hu",
    "to_mu",
]
