"""Every series resampled in plane to one pixel spacing, as valid DICOM."""

from ctsr import make_callable
from ctsr.preprocess.manifest import SeriesRow
from ctsr.preprocess.run import PreprocessReport, preprocess

__all__ = ["PreprocessReport", "SeriesRow", "preprocess"]

make_callable(__name__, "ctsr.api.images:preprocess")
