"""A model beside interpolation, on LR that is made of the volume."""

import ctsr

hr = ctsr.example_volume(slices=2, size=64)
table = ctsr.evaluate(hr, model="ctsr-x2", names=["PSNR", "MAE_HU"])
for method, values in table.items():
    print(method, values)
