"""What is in a folder of exams, and what is wrong with it."""

import ctsr

inventory = ctsr.scan("EXAMS")
for series in inventory.all_series():
    print(series.patient_id, len(series.slices), "slices", series.pixel_spacing, "mm", series.kernel)
    for defect in series.defects:
        print("  ", defect.kind, defect.detail)
