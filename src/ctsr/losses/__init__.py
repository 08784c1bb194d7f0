"""Training losses: functions of SR and HR in [-1, 1], and of discriminator scores."""

from ctsr.losses.adversarial import GanType, discriminator_loss, generator_loss
from ctsr.losses.reconstruction import PerceptualLoss, artifact_loss, consistency_loss, l1_loss

__all__ = [
    "GanType",
    "PerceptualLoss",
    "artifact_loss",
    "consistency_loss",
    "discriminator_loss",
    "generator_loss",
    "l1_loss",
]
