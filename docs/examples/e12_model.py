"""The network itself, in PyTorch."""

import torch

import ctsr
from ctsr.models.conditioning import Conditions, with_conditions

model = ctsr.load_model("ctsr-x2")
print(model.architecture, model.hu_range, model.sha256[:12])
hu = ctsr.example_volume(slices=1, size=64).hu
lr = torch.from_numpy(model.hu_range.to_unit(hu))[None]  # (1, 1, 64, 64) in [-1, 1]
told = Conditions(blur_sigma=0.3, noise_sigma=10 / model.hu_range.hu_per_unit)  # HR pixels; 10 HU
with torch.inference_mode():
    sr = model.net(with_conditions(lr, [told]))
print(model.hu_range.to_hu(sr.numpy()).shape)
