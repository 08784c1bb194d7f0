"""What training minimises: small pure functions of SR and HR, all on [-1, 1]."""

from ctsr.losses.adversarial import GanType, discriminator_loss, generator_loss
from ctsr.losses.artifacts import artifact_loss
from ctsr.losses.consistency import consistency_loss
from ctsr.losses.perceptual import PerceptualLoss
from ctsr.losses.pixel import l1_loss

__all__ = [
    "GanType",
    "PerceptualLoss",
    "artifact_loss",
    "consistency_loss",
    "discriminator_loss",
    "generator_loss",
    "l1_loss",
]
