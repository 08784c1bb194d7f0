"""The stage that trains a generator with L1 alone."""

from dataclasses import asdict
from typing import Any

import torch

from ctsr.data.pairs import SlicePair
from ctsr.data.patches import PatchPair
from ctsr.infer import super_resolve
from ctsr.infer.conditions import network_input
from ctsr.losses import l1_loss
from ctsr.models.conditioning import is_conditional
from ctsr.train.history import EpochRow, L1Row
from ctsr.train.learner import Learner
from ctsr.train.rig import Losses, Rig

__all__ = ["L1Stage"]


class L1Stage:
    """Forward, backward, unscale, clip, step."""

    def __init__(self, rig: Rig, generator: Learner) -> None:
        self.rig = rig
        self.generator = generator
        self.learners = {"generator": generator}

    def step(self, batch: PatchPair, steps_done: int) -> Losses | None:
        """One batch; where memory does not hold it, in parts whose gradients add up to the whole's."""
        del steps_done
        fabric, net = self.rig.fabric, self.generator.net
        self.generator.optimizer.zero_grad()
        total = torch.zeros((), device=fabric.device)
        size = self.rig.micro_batch
        inputs = network_input(batch.lr, batch.params, conditional=is_conditional(self.generator.bare))
        parts = list(zip(inputs.split(size), batch.hr.split(size), strict=True))
        for i, (lr, hr) in enumerate(parts):
            # Gradients travel between devices once a step: with the last part.
            with fabric.no_backward_sync(net, enabled=i < len(parts) - 1):
                loss = l1_loss(net(lr), hr) * (len(hr) / len(batch))
                fabric.backward(loss)
            total += loss.detach()
        losses = self.rig.mean({"l1": total})
        if not self.generator.update(fabric, losses["l1"]):
            return None
        self.generator.average_in()
        return losses

    def row(self, known: EpochRow, trained: Losses) -> L1Row:
        """Mean L1 over full validation slices, [-1, 1] units."""
        validated = self.rig.over_validation(self._measure)
        values: dict[str, Any] = {**asdict(known), "train_l1": trained.get("l1"), "val_l1": validated["l1"]}
        return L1Row(**values)

    def score(self, row: L1Row) -> float:
        """The validation L1."""
        return row.val_l1

    def _measure(self, pair: SlicePair) -> Losses:
        net = self.generator.in_use
        sr = super_resolve(net, network_input(pair.lr, [pair.draw.params], conditional=is_conditional(net)))
        return {"l1": float(l1_loss(sr.double(), pair.hr.double()))}
