"""Between a running training and its checkpoint: everything that the next step depends on."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from ctsr.checkpoint import Checkpoint, Meta
from ctsr.errors import CheckpointError
from ctsr.train.history import TrainingState
from ctsr.train.loop import Trainer

__all__ = ["restore", "snapshot"]


def snapshot(trainer: Trainer, state: TrainingState, meta: Meta, config: Mapping[str, Any]) -> Checkpoint:
    """The training as it stands after a whole epoch.

    Patches, their order and their degradation are functions of seed and epoch: there is no sampler state to keep.
    """
    return Checkpoint(
        meta=meta,
        weights=network_of(trainer).state_dict(),
        ema=None,
        training={
            "optimizer": trainer.optimizer.state_dict(),
            "scaler": _precision(trainer.fabric).state_dict(),
            "rng": _random_state(),
            "standing": state.as_dict(),
            "config": dict(config),
        },
    )


def restore(trainer: Trainer, checkpoint: Checkpoint) -> TrainingState:
    """Put a training back to where `snapshot` found it.

    Raises:
        CheckpointError: the checkpoint is of another network, or carries no training state.
    """
    missing = {"optimizer", "scaler", "rng", "standing"} - checkpoint.training.keys()
    if missing:
        raise CheckpointError(f"this checkpoint cannot be continued: it has no {', '.join(sorted(missing))}")
    try:
        network_of(trainer).load_state_dict(checkpoint.weights)
        trainer.optimizer.load_state_dict(checkpoint.training["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoint does not fit this training: {error}") from error
    _precision(trainer.fabric).load_state_dict(checkpoint.training["scaler"])
    torch.set_rng_state(checkpoint.training["rng"]["cpu"])
    if torch.cuda.is_available() and checkpoint.training["rng"]["cuda"]:
        torch.cuda.set_rng_state_all(checkpoint.training["rng"]["cuda"])
    return TrainingState.from_dict(checkpoint.training["standing"])


def network_of(trainer: Trainer) -> nn.Module:
    """The bare network, without the wrappers that Fabric puts around it."""
    net: nn.Module = trainer.net.module
    return net.module if isinstance(net, nn.parallel.DistributedDataParallel) else net


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _precision(fabric: Fabric) -> Any:
    """Fabric's precision plugin: under 16-mixed it holds the gradient scaler."""
    return fabric.strategy.precision
