"""The foreign layouts, written down a second time: keys and shapes by hand, the forward passes by functional calls."""

import torch
import torch.nn.functional as nnf
from torch import Tensor

State = dict[str, Tensor]


def user_state(scale: int, nf: int = 8, nb: int = 2, gc: int = 4, channels: int = 1, seed: int = 0) -> State:
    """Random weights under the keys of the checkpoints from before ctsr."""
    shapes = {"conv_first": (nf, channels), "trunk_conv": (nf, nf), "conv_last": (channels, nf)}
    shapes |= {"upsampler.0": (4 * nf, nf)} | ({"upsampler.3": (4 * nf, nf)} if scale == 4 else {})
    return _random(shapes | _dense("RRDB_trunk", nf, nb, gc), seed)


def basicsr_state(scale: int, nf: int = 8, nb: int = 2, gc: int = 4, channels: int = 3, seed: int = 0) -> State:
    """Random weights under the keys of BasicSR's RRDBNet."""
    shapes = {"conv_first": (nf, channels * (4 if scale == 2 else 1)), "conv_last": (channels, nf)}
    shapes |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (nf, nf))
    return _random(shapes | _dense("body", nf, nb, gc), seed)


def user_forward(state: State, x: Tensor) -> Tensor:
    """The generator of the checkpoints from before ctsr; any number of channels, [-1, 1]."""
    features = _conv(state, "conv_first", x)
    features = features + _conv(state, "trunk_conv", _blocks(state, "RRDB_trunk", features))
    for key in ("upsampler.0", "upsampler.3"):
        if f"{key}.weight" in state:
            features = _lrelu(_pixel_shuffle(_conv(state, key, features)))
    return _conv(state, "conv_last", features)


def basicsr_forward(state: State, x: Tensor) -> Tensor:
    """BasicSR's RRDBNet; its own number of channels, [0, 1]; height and width even at ×2."""
    if state["conv_first.weight"].shape[1] == 4 * x.shape[1]:
        # Channel-major, then the place in the 2×2 block, row by row.
        corners = [x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        x = torch.stack(corners, 2).flatten(1, 2)
    features = _conv(state, "conv_first", x)
    features = features + _conv(state, "conv_body", _blocks(state, "body", features))
    for key in ("conv_up1", "conv_up2"):
        twice = features.repeat_interleave(2, -1).repeat_interleave(2, -2)
        features = _lrelu(_conv(state, key, twice))
    return _conv(state, "conv_last", _lrelu(_conv(state, "conv_hr", features)))


def _random(shapes: dict[str, tuple[int, int]], seed: int) -> State:
    rng = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, (out, inner) in shapes.items():
        state[f"{name}.weight"] = torch.randn(out, inner, 3, 3, generator=rng) / (3 * inner**0.5)
        state[f"{name}.bias"] = torch.randn(out, generator=rng) / 10
    return state


def _dense(trunk: str, nf: int, nb: int, gc: int) -> dict[str, tuple[int, int]]:
    return {
        f"{trunk}.{block}.rdb{part}.conv{k}": (nf if k == 5 else gc, nf + (k - 1) * gc)
        for block in range(nb)
        for part in (1, 2, 3)
        for k in (1, 2, 3, 4, 5)
    }


def _blocks(state: State, trunk: str, x: Tensor) -> Tensor:
    nb = 1 + max(int(key.split(".")[1]) for key in state if key.startswith(trunk))
    for block in range(nb):
        inner = x
        for part in (1, 2, 3):
            seen = inner
            for k in (1, 2, 3, 4):
                seen = torch.cat([seen, _lrelu(_conv(state, f"{trunk}.{block}.rdb{part}.conv{k}", seen))], 1)
            inner = inner + 0.2 * _conv(state, f"{trunk}.{block}.rdb{part}.conv5", seen)
        x = x + 0.2 * inner
    return x


def _conv(state: State, name: str, x: Tensor) -> Tensor:
    return nnf.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)


def _lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def _pixel_shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)
