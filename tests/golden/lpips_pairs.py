"""The pairs of images that LPIPS is compared on, and how their reference values are made.

Run as a script, it computes the values with the package `lpips` (and torchvision, which that needs) in an environment
of its own, on the trunks that `ctsr weights fetch` brought:

    pip install lpips==0.1.4 torchvision scikit-image safetensors
    python tests/golden/lpips_pairs.py CACHE
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

EXPECTED = {
    ("alex", "blocks"): 0.354098,
    ("alex", "shifted"): 0.091262,
    ("vgg", "blocks"): 0.476953,
    ("vgg", "shifted"): 0.187024,
}
"""What `lpips` 0.1.4 says."""

FEATURES = {
    "conv1_2": (-0.198438, 1.845223),
    "conv3_3": (-7.115563, 9.489030),
    "conv5_3": (-6.880088, 5.938062),
}
"""Mean and standard deviation of torchvision's VGG16 features of `reference`, before the activation."""


def reference() -> Image:
    """(256, 256, 3): the face of scikit-image's astronaut."""
    from skimage.data import astronaut

    return astronaut()[:256, 96:352]


def distorted(name: str) -> Image:
    """`blocks`: every 4×4 pixels their rounded mean; `shifted`: moved down by three rows, round the edge."""
    image = reference()
    if name == "shifted":
        return np.roll(image, 3, axis=0)
    means = np.rint(image.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))).astype(np.uint8)
    return means.repeat(4, axis=0).repeat(4, axis=1)


def _compute(cache: Path) -> None:
    import lpips
    import torch
    import torchvision
    from safetensors.torch import load_file

    def tensor(image: Image) -> "torch.Tensor":
        return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1

    for net, trunk in (("alex", "alexnet"), ("vgg", "vgg16")):
        metric = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        state = load_file(cache / f"{trunk}.safetensors")
        own = metric.net.state_dict()
        metric.net.load_state_dict(dict(zip(own, (state[k] for k in _torchvision_order(state)), strict=True)))
        for name in ("blocks", "shifted"):
            with torch.no_grad():
                print(f'    ("{net}", "{name}"): {float(metric(tensor(reference()), tensor(distorted(name)))):.6f},')

    vgg = torchvision.models.vgg16().features
    vgg.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image = ((tensor(reference()) + 1) / 2 - mean) / std
    for name, index in (("conv1_2", 2), ("conv3_3", 14), ("conv5_3", 28)):
        with torch.no_grad():
            found = vgg[: index + 1](image)
        print(f'    "{name}": ({float(found.mean()):.6f}, {float(found.std()):.6f}),')


def _torchvision_order(state: "dict[str, object]") -> list[str]:
    numbers = sorted({int(key.split(".")[1]) for key in state})
    return [f"features.{number}.{part}" for number in numbers for part in ("weight", "bias")]


if __name__ == "__main__":
    _compute(Path(sys.argv[1]))
