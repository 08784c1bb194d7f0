"""X-ray projections of a slice and its reconstruction from them, with the noise of a dose. NumPy and SciPy only."""

from ctsr.projection.fan_beam import FanBeam, ImageGrid
from ctsr.projection.forward import MU_WATER, project_image, project_shapes, to_hu, to_mu
from ctsr.projection.noise import Exposure, added_noise, exam_dose_noise, expose
from ctsr.projection.reconstruction import SHARP, SOFT, Kernel, reconstruct, reconstruct_all
from ctsr.projection.shapes import Ellipse, Rectangle, Shape

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
