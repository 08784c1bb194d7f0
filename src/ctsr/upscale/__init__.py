"""A model applied to real series: DICOM in, valid DICOM out."""

from ctsr.upscale.options import UpscaleOptions
from ctsr.upscale.run import Report, upscale

__all__ = ["Report", "UpscaleOptions", "upscale"]
