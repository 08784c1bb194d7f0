"""Every series below a folder, as valid DICOM; the same call again keeps what exists."""

import ctsr

report = ctsr.upscale("EXAMS", "sharper")
for outcome in report.outcomes:
    print(outcome.output, outcome.num_slices, outcome.error or "ok")
