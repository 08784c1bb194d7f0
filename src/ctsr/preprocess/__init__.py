"""Every series resampled in plane to one pixel spacing, as valid DICOM."""

from ctsr.preprocess.log import SeriesRow
from ctsr.preprocess.run import Report, preprocess

__all__ = ["Report", "SeriesRow", "preprocess"]
