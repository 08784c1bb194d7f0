"""One pixel spacing for a volume, or for every series below a folder."""

import ctsr

volume = ctsr.example_volume(slices=2, size=64)
print(ctsr.preprocess(volume, target_spacing=4.0).grid)
report = ctsr.preprocess("EXAMS", "preprocessed_data", target_spacing=4.0, workers=1)
print(report.written, "slices,", report.failed, "series failed")
