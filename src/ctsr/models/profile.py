"""What a network costs: parameters, multiplications, and memory, counted without doing the work where possible."""

import copy
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode  # the documented way to see every operation

from ctsr.errors import DomainError
from ctsr.models import Architecture, build
from ctsr.models.conditioning import FOLD, input_channels, is_through_plane

PROBE_SIZES = (16, 24)
"""Sides in pixels of the two patches that `training_bytes_per_pixel` compares."""


@dataclass
class LayerGroup:
    """The convolutions under one top-level part of a network, added up."""

    name: str
    convolutions: int = 0
    parameters: int = 0
    macs: int = 0
    """Multiply-accumulate operations, for one image."""
    output_shape: tuple[int, ...] = ()
    """``(channels, height, width)`` of the last of them."""


@dataclass(frozen=True)
class Profile:
    """The cost of one image of one size; float32."""

    input_size: tuple[int, int]
    """LR height and width in pixels."""
    parameters: int
    macs: int
    """Multiply-accumulate operations of the convolutions in one forward pass."""
    inference_bytes: int
    """Most that activations hold at one moment of a forward pass without gradients, input and output included."""
    training_bytes: int
    """What a forward pass keeps for the backward pass, per sample."""
    groups: tuple[LayerGroup, ...]

    @property
    def weight_bytes(self) -> int:
        """The weights themselves."""
        return 4 * self.parameters

    @property
    def optimizer_bytes(self) -> int:
        """Weights, gradients and Adam's two moments: what training holds whatever the batch."""
        return 4 * self.weight_bytes


def profile(network: Architecture | nn.Module, input_size: tuple[int, int] = (256, 256)) -> Profile:
    """Count what one image costs.

    Runs on the meta device: shapes are followed through every operation, nothing is computed and no memory is taken.
    Workspaces of the convolution library are not in it; on a CPU they come to about as much again as inference takes.

    Args:
        network: a network, or what one is built from.
        input_size: LR height and width in pixels.

    Raises:
        DomainError: the image has no pixels, or not such as the network takes; or the network cannot be built.
    """
    if min(input_size) < 1:
        raise DomainError(f"an image needs at least 1 × 1 pixels, got {input_size[0]} × {input_size[1]}")
    with torch.device("meta"):
        net = build(network) if isinstance(network, Architecture) else copy.deepcopy(network).to("meta")
        if is_through_plane(net) and any(side % FOLD for side in input_size):
            raise DomainError(
                f"a network between slices takes even numbers of pixels, got {input_size[0]} × {input_size[1]}"
            )
        image = torch.empty(1, input_channels(net), *input_size)
    with _live_bytes() as live, _convolutions(net) as groups, torch.no_grad():
        net(image)
    return Profile(
        input_size=input_size,
        parameters=sum(p.numel() for p in net.parameters()),
        macs=sum(group.macs for group in groups.values()),
        inference_bytes=live.peak + _size(image),
        training_bytes=saved_bytes(net, image),
        groups=tuple(groups.values()),
    )


def training_bytes_per_pixel(net: nn.Module) -> float:
    """Bytes that a forward pass keeps for the backward pass, for each LR pixel of a sample.

    Measured where the network lives, in the precision of the surrounding `torch.autocast`: two small patches are run
    and compared, so that what does not grow with the patch (cast copies of weights) falls out.
    """
    device = next(net.parameters()).device

    def kept(side: int) -> int:
        return saved_bytes(net, torch.zeros(1, input_channels(net), side, side, device=device))

    small, large = PROBE_SIZES
    return (kept(large) - kept(small)) / (large**2 - small**2)


def seconds_per_forward(net: nn.Module, input_size: tuple[int, int]) -> float:
    """Wall time of one forward pass over one image where the network lives, after a small one to warm up."""
    device, channels = next(net.parameters()).device, input_channels(net)
    with torch.inference_mode():
        net(torch.zeros(1, channels, *PROBE_SIZES, device=device)).cpu()
        image = torch.zeros(1, channels, *input_size, device=device)
        started = time.perf_counter()
        net(image).cpu()  # the copy waits for a GPU to finish
    return time.perf_counter() - started


@contextmanager
def _convolutions(net: nn.Module) -> Generator[dict[str, LayerGroup]]:
    """Counts the convolutions that run inside the block, by the top-level part of `net` they belong to."""
    groups: dict[str, LayerGroup] = {}

    def count(name: str, conv: nn.Conv2d, output: Tensor) -> None:
        group = groups.setdefault(name, LayerGroup(name))
        group.convolutions += 1
        group.parameters += sum(p.numel() for p in conv.parameters())
        group.macs += conv.weight.numel() * output.shape[-2] * output.shape[-1]
        group.output_shape = tuple(output.shape[1:])

    def hook(name: str) -> Any:
        return lambda conv, _inputs, output: count(name, conv, output)

    handles = [
        module.register_forward_hook(hook(name.partition(".")[0]))
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        yield groups
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Live:
    """Storages that exist now, and the most their sizes have added up to."""

    now: int = 0
    peak: int = 0
    seen: set[int] = field(default_factory=set[int])

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) in self.seen:
            return
        self.seen.add(id(storage))
        weakref.finalize(storage, self._remove, id(storage), storage.nbytes())
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)

    def _remove(self, identity: int, size: int) -> None:
        self.seen.discard(identity)
        self.now -= size


class _Watch(TorchDispatchMode):
    """Shows every operation's result to `live`."""

    def __init__(self, live: _Live) -> None:
        super().__init__()
        self.live = live

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not any(result is arg for arg in args):
            self.live.add(result)
        return result


@contextmanager
def _live_bytes() -> Generator[_Live]:
    """Watches the memory of what is made inside the block."""
    live = _Live()
    with _Watch(live):
        yield live


def saved_bytes(run: Callable[[Tensor], Tensor], image: Tensor) -> int:
    """Bytes of the distinct storages that a forward pass keeps for the backward pass, but for a network's weights.

    Args:
        run: a network, or whatever else a gradient is taken through.
        image: what it is run on.
    """
    parameters = run.parameters() if isinstance(run, nn.Module) else ()
    weights = {id(p.untyped_storage()) for p in parameters}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in weights:
            kept[id(storage)] = storage  # held, so that its id is not given to another
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
        run(image)
    return sum(storage.nbytes() for storage in kept.values())


def _size(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
