"""A volume of one's own, and NIfTI."""

import numpy as np

import ctsr

hu = np.full((4, 64, 64), -1000, np.float32)
hu[:, 16:48, 16:48] = 40
hu[:, 24:40, 24:40] = 300
hu += np.random.default_rng(0).normal(0, 10, hu.shape)
volume = ctsr.Volume.from_array(hu, spacing=(2.5, 0.8, 0.8))
ctsr.write_series(volume, "cube.nii.gz")
print(ctsr.read_volume("cube.nii.gz").grid.spacing)
