"""Metrics of any image against a reference, in HU and on a window."""

import ctsr

hr = ctsr.example_volume(slices=2, size=64)
sr = ctsr.upscale(ctsr.degrade(hr))
print(ctsr.metrics(sr, hr))
print(ctsr.metrics(sr, hr, names=["PSNR", "SSIM"], preset="soft_tissue", mask="body"))
