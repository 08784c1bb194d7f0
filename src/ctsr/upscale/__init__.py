"""A model applied to real series: DICOM in, valid DICOM out."""

from ctsr import make_callable

make_callable(__name__, "ctsr.api.images:upscale")
