"""Between a running training and its checkpoint: everything that the next step depends on."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from ctsr.checkpoint import Checkpoint, Meta
from ctsr.errors import CheckpointError
from ctsr.train.devices import precision_of
from ctsr.train.history import EpochRow, TrainingState
from ctsr.train.loop import Stage

__all__ = ["restore", "snapshot"]

R = TypeVar("R", bound=EpochRow)


def snapshot(stage: Stage[R], state: TrainingState[R], meta: Meta, config: Mapping[str, Any]) -> Checkpoint:
    """The training as it stands after a whole epoch.

    Patches, their order and degradation, and the learning rate are functions of seed and epoch: there is no state of
    sampler or schedule to keep.
    """
    learners = {name: learner.state_dict() for name, learner in stage.learners.items()}
    generator = learners.pop("generator")
    return Checkpoint(
        meta=meta,
        weights=generator["weights"],
        ema=generator["ema"],
        training={
            "optimizer": generator["optimizer"],
            "averaged_steps": generator["averaged_steps"],
            "others": learners,
            "scaler": precision_of(stage.rig.fabric).state_dict(),
            "rng": _random_state(),
            "standing": state.as_dict(),
            "config": dict(config),
        },
    )


def restore(stage: Stage[R], checkpoint: Checkpoint, row: type[R]) -> TrainingState[R]:
    """Put a training back to where `snapshot` found it.

    Args:
        stage: networks of the same shape.
        checkpoint: what `snapshot` gave.
        row: how a line of the history is made.

    Raises:
        CheckpointError: the checkpoint is of another network or kind of training, or carries no training state.
    """
    training = checkpoint.training
    missing = {"optimizer", "scaler", "rng", "standing"} - training.keys()
    if missing:
        raise CheckpointError(f"this checkpoint cannot be continued: it has no {', '.join(sorted(missing))}")
    generator = {"weights": checkpoint.weights, "ema": checkpoint.ema} | {
        name: training.get(name) for name in ("optimizer", "averaged_steps")
    }
    try:
        for name, learner in stage.learners.items():
            learner.load_state_dict(generator if name == "generator" else training["others"][name])
        state = TrainingState[R].from_dict(training["standing"], row)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the checkpoint does not fit this training: {error}") from error
    if training["scaler"]:  # empty where the run has been in a precision that needs none
        precision_of(stage.rig.fabric).load_state_dict(training["scaler"])
    torch.set_rng_state(training["rng"]["cpu"])
    # It may have been on other devices, or on more of them.
    for device, random in zip(range(torch.cuda.device_count()), training["rng"]["cuda"], strict=False):
        torch.cuda.set_rng_state(random, device)
    return state


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}
