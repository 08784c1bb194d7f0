"""The images that HaarPSI, MS-SSIM, VIF and NIQE are compared on, and how their reference values are made.

Run as a script, it computes the values with the packages `piq` and `pyiqa` in an environment of its own, NIQE's on the
model that `ctsr weights fetch niqe` brought:

    pip install piq==0.8.0 pyiqa==0.1.16 torchvision scikit-image scipy safetensors
    python tests/golden/quality_images.py CACHE
"""

import sys
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

DISTORTIONS = ("blocks", "noisy", "clipped")
ODD = 255
"""Pixels on a side of the part that metrics which halve an image are compared on a second time."""

EXPECTED = {
    ("HaarPSI", "blocks", 512): 0.46303744,
    ("HaarPSI", "blocks", 255): 0.49916109,
    ("HaarPSI", "noisy", 512): 0.78026966,
    ("HaarPSI", "noisy", 255): 0.77430927,
    ("HaarPSI", "clipped", 512): 0.34667797,
    ("HaarPSI", "clipped", 255): 0.37895965,
    ("MS-SSIM", "blocks", 512): 0.95517734,
    ("MS-SSIM", "noisy", 512): 0.93509855,
    ("MS-SSIM", "clipped", 512): 0.76949741,
    ("VIF", "blocks", 512): 0.31881367,
    ("VIF", "blocks", 255): 0.32715504,
    ("VIF", "noisy", 512): 0.41408148,
    ("VIF", "noisy", 255): 0.39494233,
    ("VIF", "clipped", 512): 0.38465154,
    ("VIF", "clipped", 255): 0.28465302,
}
"""What `piq` 0.8.0 says of a distorted image against `original`, by metric, distortion and size."""

NIQE = {
    "original": 3.08705172,
    "blocks": 7.13094062,
    "noisy": 8.36700270,
    "clipped": 7.75095051,
}
"""What `pyiqa` 0.1.16 says."""


CALIBRATION = {
    "I03": (15.7536, 15.743564),
    "I04": (3.6549, 3.654908),
    "I06": (3.2355, 3.234130),
    "I08": (3.1840, 3.194842),
    "I19": (8.6352, 9.072138),
}
"""NIQE of the grey calibration images that `pyiqa` brings: as the authors' release in MATLAB gives it (`NIQE(org)` in
pyiqa's `ResultsCalibra.md`), and as `pyiqa` 0.1.16 does. In flat areas (I03, I08 and I19 have many) the former hangs on
the order of its additions."""


def original() -> Image:
    """(512, 512): scikit-image's astronaut, the mean of its colours."""
    from skimage.data import astronaut

    return np.rint(astronaut().mean(axis=2)).astype(np.uint8)


def distorted(name: str) -> Image:
    """`blocks`: every 4×4 pixels their rounded mean; `noisy`: Gaussian noise; `clipped`: a window a quarter as wide."""
    image = original()
    match name:
        case "blocks":
            return np.rint(image.reshape(128, 4, 128, 4).mean(axis=(1, 3))).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        case "noisy":
            noise = np.random.default_rng(0).normal(scale=12, size=image.shape)
            return np.rint(image + noise).clip(0, 255).astype(np.uint8)
        case "clipped":
            return (4 * (image.astype(int) - 100)).clip(0, 255).astype(np.uint8)
        case _:
            return image


def calibration(file: IO[bytes] | Path) -> Image:
    """A calibration image, (384, 512), grey by the weights of MATLAB's ``rgb2gray``."""
    from PIL import Image as Pillow

    with Pillow.open(file) as opened:
        grey = np.asarray(opened) @ np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])
    return np.rint(grey).astype(np.uint8)


def _compute(cache: Path) -> None:
    import piq
    import pyiqa
    import torch
    from safetensors.torch import load_file
    from scipy.io import savemat

    def tensor(image: Image) -> "torch.Tensor":
        return torch.from_numpy(image.copy())[None, None].double() / 255

    compared = {"HaarPSI": piq.haarpsi, "MS-SSIM": piq.multi_scale_ssim, "VIF": piq.vif_p}
    for metric, function in compared.items():
        for name in DISTORTIONS:
            # A side of odd length is padded before the first pixel by piq's MS-SSIM, after the last by the original.
            for size in (512,) if metric == "MS-SSIM" else (512, ODD):
                pair = (tensor(one[:size, :size]) for one in (distorted(name), original()))
                print(f'    ("{metric}", "{name}", {size}): {float(function(*pair, data_range=1.0)):.8f},')

    model = load_file(cache / "niqe.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mat"
        savemat(path, {"mu_prisparam": model["mean"].numpy(), "cov_prisparam": model["covariance"].numpy()})
        niqe = pyiqa.create_metric("niqe", device=torch.device("cpu"), pretrained_model_path=str(path))
    for name in ("original", *DISTORTIONS):
        print(f'    "{name}": {float(niqe(tensor(distorted(name)))):.8f},')
    for name in CALIBRATION:
        file = Path(pyiqa.__file__).parents[1] / f"ResultsCalibra/dist_dir/{name}.bmp"
        print(f'    "{name}": {float(niqe(tensor(calibration(file)))):.6f},')


if __name__ == "__main__":
    _compute(Path(sys.argv[1]))
