"""A NumPy slice; how much is changed is a choice."""

import ctsr

image = ctsr.read_volume("EXAMS/anna").hu[0]
spacing = (2.8, 2.8)  # mm between rows, between columns
for strength in ("faithful", "standard", "strong"):
    fine = ctsr.upscale(image, spacing=spacing, strength=strength)
    print(strength, fine.shape, fine.std())
