"""A series as a block of HU on a grid in mm."""

import numpy as np

import ctsr

volume = ctsr.read_volume("EXAMS/anna")
print(volume.hu.shape, volume.hu.dtype, volume.grid.spacing)
print("mean of soft tissue:", np.mean(volume.hu[(volume.hu > 0) & (volume.hu < 100)]), "HU")
print("first voxel at", volume.grid.position((0, 0, 0)), "mm")
