"""Low-resolution, noisy images of high-resolution ones, with known parameters."""

import ctsr
from ctsr.degrade import Degradation

hr = ctsr.example_volume(slices=2, size=64)
lr = ctsr.degrade(hr, scale=2, degradation="blurnoise", seed=1)
print(hr.grid.spacing, "->", lr.grid.spacing)

own = Degradation(scale=4, blur_sigma_range=(1.0, 2.0), noise_sigma_range=(0.0, 0.01), noise_model=("correlated",))
print(ctsr.degrade(hr, degradation=own).hu.shape)
