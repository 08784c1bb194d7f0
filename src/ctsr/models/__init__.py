"""Networks, and reading what they are off their weights: no configuration file to lose."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ctsr.errors import CheckpointError, DomainError
from ctsr.models.conditioning import CHANNELS, FOLD, GAIN_KEY
from ctsr.models.networks import (
    CONVS_PER_BLOCK,
    SCALES,
    STAGES,
    UNSHUFFLE,
    RealESRGANNet,
    RRDBNet,
    ThroughPlaneNet,
    dense_net,
    plain_net,
    residual_net,
)
from ctsr.reporting import listed

StateDict: TypeAlias = Mapping[str, Tensor]
"""Weights by the name of the part they belong to, as `nn.Module.state_dict` gives them."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DataParallel, averaging and compiling put before every key."""
THROUGH_PLANE = "edsr_z"
"""The family of networks between slices."""
COUNTERS = frozenset({"n_averaged"})
"""Keys beside the weights that an averaged model carries."""


@dataclass(frozen=True)
class Architecture:
    """A network's family and hyper-parameters: all that is needed to build it again."""

    name: str
    """A key of `FAMILIES`."""
    scale: int
    """How many times finer its output is than its input; 1 of a network between slices."""
    nf: int
    nb: int
    gc: int
    """Growth of the dense blocks; 0 as it is read off a network that has none."""
    in_channels: int = 1
    """Colours of the images that the weights are for. Networks built here have 1: `load_state` folds 3 into it."""
    conditional: bool = False
    """Whether it is told the blur and the noise of its input; see `ctsr.models.conditioning`."""

    @property
    def is_through_plane(self) -> bool:
        """Whether it makes slices between slices rather than finer slices."""
        return self.name == THROUGH_PLANE

    def __str__(self) -> str:
        growth = f", gc {self.gc}" if self.gc else ""
        told = ", conditional" if self.conditional else ""
        where = "between slices" if self.is_through_plane else f"×{self.scale}"
        return f"{self.name} {where}, nf {self.nf}, nb {self.nb}{growth}{told}"


@dataclass(frozen=True)
class Family:
    """One row of the table of architectures."""

    marks: frozenset[str]
    """Keys that all state dicts of this family have, and none of another."""
    read: Callable[[StateDict], Architecture]
    """Hyper-parameters off the weights. The marks are there; what else it needs may be missing or malformed."""
    build: Callable[[Architecture], nn.Module]
    radius: Callable[[Architecture], int]
    """See `receptive_radius`."""
    trunk: str
    """How the names of the parts begin that most of the work is in and no pixel comes straight from."""


def describe(state: StateDict) -> Architecture:
    """The architecture that these weights belong to.

    Raises:
        CheckpointError: they fit none that is known, or a scale other than 2 and 4.
    """
    state = _unwrapped(state)
    for family in FAMILIES.values():
        if family.marks <= state.keys():
            try:
                return family.read(state)
            except (KeyError, IndexError, ValueError) as error:
                raise CheckpointError(f"the weights are incomplete or malformed: {error}") from error
    raise CheckpointError(
        f"no known network has these weights; it holds {_some(state)}, expected the keys of {' or '.join(FAMILIES)}"
    )


def build(architecture: Architecture) -> nn.Module:
    """A network with fresh weights that maps ``(N, 1, H, W)`` in [-1, 1] → ``(N, 1, scale·H, scale·W)`` in [-1, 1].

    Raises:
        DomainError: the family is unknown, or does not come in these hyper-parameters.
    """
    if architecture.name not in FAMILIES:
        raise DomainError(f"no network is called {architecture.name!r}; there are {', '.join(FAMILIES)}")
    if architecture.in_channels != 1:
        raise DomainError(f"networks are built for 1 channel, not {architecture.in_channels}")
    if architecture.conditional and architecture.name == "real_esrgan":
        raise DomainError("the Real-ESRGAN network takes no conditions")
    return FAMILIES[architecture.name].build(architecture)


def load_state(state: StateDict) -> tuple[Architecture, nn.Module]:
    """The network that these weights belong to, with these weights in float32, in evaluation mode, on the CPU.

    Weights for colour images are folded to one channel. Tensors that fit as they are become the network's own, not
    copies. The global random state is left alone.

    Raises:
        CheckpointError: the weights fit no known network, or are incomplete, of the wrong shapes, or not finite.
    """
    folded = _folded_to_grey(_unwrapped(state), describe(state).in_channels)
    architecture = replace(describe(folded), in_channels=1)
    with torch.device("meta"):  # shapes only: the weights that would be drawn here are those of the file
        net = build(architecture)
    _check_fit(net.state_dict(), folded)
    net.load_state_dict({key: value.float().contiguous() for key, value in folded.items()}, assign=True)
    return architecture, net.eval()


def receptive_radius(architecture: Architecture) -> int:
    """How far, in LR pixels, an input pixel can be from an output pixel's own place and still change it."""
    return FAMILIES[architecture.name].radius(architecture)


def _all_begin_with(prefix: str, keys: Iterable[str]) -> bool:
    return all(key.startswith(prefix) for key in keys)


def _unwrapped(state: StateDict) -> dict[str, Tensor]:
    cleaned = {key: value for key, value in state.items() if key not in COUNTERS}
    while cleaned and any(_all_begin_with(wrapper, cleaned) for wrapper in WRAPPERS):
        cleaned = {key.partition(".")[2]: value for key, value in cleaned.items()}
    return cleaned


def _folded_to_grey(state: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    """The weights that do to a grey image what the colour weights do to it, replicated, with their output averaged.

    Exact, because the first and last convolutions are linear. Unshuffled input channels are ordered (colour, place in
    the block), so the sum runs over the outer part.
    """
    if channels == 1:
        return state
    first = state["conv_first.weight"]
    return state | {
        "conv_first.weight": first.unflatten(1, (channels, -1)).sum(1),
        "conv_last.weight": state["conv_last.weight"].mean(0, keepdim=True),
        "conv_last.bias": state["conv_last.bias"].mean(0, keepdim=True),
    }


def _check_fit(wanted: StateDict, given: StateDict) -> None:
    if missing := wanted.keys() - given.keys():
        raise CheckpointError(f"the weights are incomplete: {_some(missing)} missing")
    if unexpected := given.keys() - wanted.keys():
        raise CheckpointError(f"the weights hold parts that the network does not have: {_some(unexpected)}")
    for key, value in given.items():
        if value.shape != wanted[key].shape:
            raise CheckpointError(f"{key} has shape {tuple(value.shape)}, expected {tuple(wanted[key].shape)}")
        if not value.isfinite().all():
            raise CheckpointError(f"{key} holds values that are not finite: the training it comes from diverged")


def _some(keys: Collection[str]) -> str:
    return listed(sorted(keys), 4) or "nothing"


def _read_rrdb(state: StateDict) -> Architecture:
    stages = sum(key.startswith("upsampler.") and key.endswith(".weight") for key in state)
    scales = {count: scale for scale, count in STAGES.items()}
    if stages not in scales:
        raise CheckpointError(f"its upsampler has {stages} stages (×{2**stages}); scales 2 and 4 are supported")
    conditional = GAIN_KEY in state
    channels = 1 if conditional else state["conv_first.weight"].shape[1]
    found = _trunk(state, "rrdb", "RRDB_trunk", scales[stages], in_channels=channels)
    return replace(found, conditional=conditional)


def _read_real_esrgan(state: StateDict) -> Architecture:
    channels_in = state["conv_first.weight"].shape[1]
    channels_out = state["conv_last.weight"].shape[0]
    scales = {unshuffle**2: scale for scale, unshuffle in UNSHUFFLE.items()}
    blocks, rest = divmod(channels_in, channels_out)
    if rest or blocks not in scales:
        raise CheckpointError(
            f"its first convolution takes {channels_in} channels for {channels_out} out; "
            f"scale 4 has as many, scale 2 four times as many, and others are not supported"
        )
    return _trunk(state, "real_esrgan", "body", scales[blocks], in_channels=channels_out)


def _trunk(state: StateDict, name: str, trunk: str, scale: int, *, in_channels: int) -> Architecture:
    growth, nf = state[f"{trunk}.0.rdb1.conv1.weight"].shape[:2]
    nb = len({key.split(".")[1] for key in state if key.startswith(f"{trunk}.")})
    return Architecture(name, scale, nf=nf, nb=nb, gc=growth, in_channels=in_channels)


def _read_skip(name: str, state: StateDict) -> Architecture:
    nf, channels = state["conv_first.weight"].shape[:2]
    scales = {scale**2: scale for scale in SCALES}
    outputs = state["conv_up.weight"].shape[0]
    conditional = GAIN_KEY in state
    if outputs not in scales or channels != (1 + CHANNELS if conditional else 1):
        raise CheckpointError(
            f"it takes {channels} channels and shuffles {outputs}; 1 channel and scales 2 and 4 are supported"
        )
    blocks = {key.split(".")[2] for key in state if key.startswith(("trunk.blocks.", "trunk.layers."))}
    growth = state["trunk.blocks.0.rdb1.conv1.weight"].shape[0] if name == "rrdb_skip" else 0
    return Architecture(name, scales[outputs], nf=nf, nb=len(blocks), gc=growth, conditional=conditional)


def _read_through_plane(state: StateDict) -> Architecture:
    blocks = {key.split(".")[2] for key in state if key.startswith("trunk.blocks.")}
    return Architecture(THROUGH_PLANE, 1, nf=state["conv_first.weight"].shape[0], nb=len(blocks), gc=0)


def _build_through_plane(architecture: Architecture) -> nn.Module:
    if architecture.scale != 1:
        raise DomainError(
            f"a network between slices has scale 1, not {architecture.scale}; scales 2 and 4 are in plane"
        )
    return ThroughPlaneNet(architecture.nf, architecture.nb)


def _skip_marks(first_of_trunk: str) -> frozenset[str]:
    return frozenset({"conv_first.weight", "conv_up.weight", f"trunk.{first_of_trunk}.weight"})


def _radius_rrdb(a: Architecture) -> int:
    """Convolutions reach 1 at LR (first, blocks, trunk, first upsampling), a half at ×2, a quarter at ×4."""
    return math.ceil(1 + CONVS_PER_BLOCK * a.nb + 1 + sum(1 / 2**stage for stage in range(STAGES[a.scale] + 1)))


def _radius_real_esrgan(a: Architecture) -> int:
    """As for RRDB, counted in unshuffled blocks: one convolution at twice their resolution, three at four times."""
    blocks = math.ceil(1 + CONVS_PER_BLOCK * a.nb + 1 + 1 / 2 + 3 * 1 / 4)
    return blocks * UNSHUFFLE[a.scale]


FAMILIES: Mapping[str, Family] = {
    "rrdb": Family(
        marks=frozenset({"conv_first.weight", "RRDB_trunk.0.rdb1.conv1.weight", "upsampler.0.weight"}),
        read=_read_rrdb,
        build=lambda a: RRDBNet(a.scale, a.nf, a.nb, a.gc, conditional=a.conditional),
        radius=_radius_rrdb,
        trunk="RRDB_trunk.",
    ),
    "real_esrgan": Family(
        marks=frozenset({"conv_first.weight", "body.0.rdb1.conv1.weight", "conv_up1.weight", "conv_hr.weight"}),
        read=_read_real_esrgan,
        build=lambda a: RealESRGANNet(a.scale, a.nf, a.nb, a.gc),
        radius=_radius_real_esrgan,
        trunk="body.",
    ),
    # With a bilinear skip: the first and last convolution reach 1 each, the skip no farther than one of them.
    "edsr": Family(
        marks=_skip_marks("blocks.0.conv1"),
        read=partial(_read_skip, "edsr"),
        build=lambda a: residual_net(a.scale, a.nf, a.nb, conditional=a.conditional),
        radius=lambda a: 1 + 2 * a.nb + 1 + 1,
        trunk="trunk.",
    ),
    "rrdb_skip": Family(
        marks=_skip_marks("blocks.0.rdb1.conv1"),
        read=partial(_read_skip, "rrdb_skip"),
        build=lambda a: dense_net(a.scale, a.nf, a.nb, a.gc, conditional=a.conditional),
        radius=lambda a: 1 + CONVS_PER_BLOCK * a.nb + 1 + 1,
        trunk="trunk.",
    ),
    "plain": Family(
        marks=_skip_marks("layers.0"),
        read=partial(_read_skip, "plain"),
        build=lambda a: plain_net(a.scale, a.nf, a.nb, conditional=a.conditional),
        radius=lambda a: 1 + a.nb + 1,
        trunk="trunk.",
    ),
    THROUGH_PLANE: Family(
        marks=frozenset({GAIN_KEY, "trunk.blocks.0.conv1.weight", "conv_last.weight"}),
        read=_read_through_plane,
        build=_build_through_plane,
        # Convolutions of folded pixels: first, blocks, trunk, last; and the rest of the pixel's own block.
        radius=lambda a: FOLD * (1 + 2 * a.nb + 1 + 1) + FOLD - 1,
        trunk="trunk.",
    ),
}
"""Every network there is. One that is added here loads, builds and is counted everywhere."""

TRUNKS = tuple(sorted({family.trunk for family in FAMILIES.values()}))
"""What a part's name begins with where it belongs to a trunk, in whichever network."""


__all__ = [
    "FAMILIES",
    "TRUNKS",
    "Architecture",
    "Family",
    "StateDict",
    "build",
    "describe",
    "load_state",
    "receptive_radius",
]
