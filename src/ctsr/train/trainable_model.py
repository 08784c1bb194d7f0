"""A network with the optimiser that moves it, and its moving average."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import (  # what Fabric.setup returns; it has no public name
    _FabricModule,  # pyright: ignore[reportPrivateUsage]
    _FabricOptimizer,  # pyright: ignore[reportPrivateUsage]
)
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ctsr.train.devices import scaler_of


@dataclass(frozen=True, eq=False)
class Learner:
    """One side of a training: the generator, or the discriminator."""

    net: _FabricModule
    """What a training step runs: shares gradients between devices, in the precision of the run."""
    bare: nn.Module
    """The network itself: what is saved, and run where no gradient is wanted."""
    optimizer: _FabricOptimizer
    clip_grad: float
    """Largest norm of a step's gradient; 0 does not clip."""
    average: AveragedModel | None = None

    @property
    def in_use(self) -> nn.Module:
        """The network that is judged and used: the average where there is one."""
        return self.bare if self.average is None else self.average.module

    def set_rate(self, rate: float) -> None:
        """Give the optimiser its learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def update(self, fabric: Fabric, loss: float) -> bool:
        """Unscale, clip, step: in this order, or what is clipped would be the loss scale.

        Returns:
            False where the loss or its gradient is not finite: the weights stay as they are.
        """
        if not math.isfinite(loss):
            self._spoil()
        limit = self.clip_grad or math.inf
        norm = fabric.clip_gradients(self.net, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        finite = norm is not None and math.isfinite(norm)
        # A gradient scaler leaves such a step out by itself, and must be asked to, or it would never scale down.
        if finite or scaler_of(fabric) is not None:
            self.optimizer.step()
        return finite

    def _spoil(self) -> None:
        """Let a gradient say what the loss said: a scaler looks at gradients alone."""
        for parameter in self.bare.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(math.nan)

    def average_in(self) -> None:
        """Let the average follow the weights by one step."""
        if self.average is not None:
            self.average.update_parameters(self.bare)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and average, for a checkpoint."""
        return {
            "weights": self.bare.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.average is None else self.average.module.state_dict(),
            "averaged_steps": 0 if self.average is None else int(self.average.n_averaged),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.bare.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(state["ema"])
            self.average.n_averaged.fill_(state["averaged_steps"])


def learner(
    fabric: Fabric, bare: nn.Module, *, lr: float, clip_grad: float, ema: float = 0.0, compiled: bool = False
) -> Learner:
    """Set a network up on the devices, with Adam (β 0.9, 0.999).

    Args:
        fabric: the devices and the precision.
        bare: the network.
        lr: learning rate.
        clip_grad: see `Learner`.
        ema: decay of the moving average; 0 keeps none.
        compiled: run training steps through torch.compile.
    """
    optimizer = torch.optim.Adam(bare.parameters(), lr=lr, betas=(0.9, 0.999))
    run = cast("nn.Module", torch.compile(bare)) if compiled else bare
    net, wrapped = fabric.setup(run, optimizer)
    average = AveragedModel(bare, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema else None
    if average is not None:
        average.requires_grad_(False).eval()
        # The weights it starts from count: without that the first step would be copied, whatever it did to them.
        average.n_averaged.fill_(1)
    return Learner(net, bare, wrapped, clip_grad, average)
