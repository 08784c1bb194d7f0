"""The result of one's own method as a DICOM series of the same patient and study."""

from dataclasses import replace

from scipy.ndimage import gaussian_filter

import ctsr

(series,) = ctsr.scan("EXAMS/anna").all_series()
volume = ctsr.read_volume(series)
smooth = replace(volume, hu=gaussian_filter(volume.hu, (0, 1, 1)))
ctsr.write_series(smooth, "smooth", like=series, description="Gaussian, sigma 1 pixel", label="[smooth]")
