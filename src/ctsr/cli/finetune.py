"""`ctsr finetune`."""

from dataclasses import dataclass, field

from ctsr.cli.console import Console
from ctsr.cli.degradation_flags import DegradationFlags
from ctsr.cli.options import Common
from ctsr.cli.train import show_result
from ctsr.train.options import FinetuneOptions

__all__ = ["Finetune"]


@dataclass(frozen=True, kw_only=True)
class Finetune:
    r"""Fine-tune a trained generator with perceptual and adversarial losses (ESRGAN).

    Architecture, scale, split and degradation come from the generator; a degradation flag that says otherwise wins.
    The perceptual loss needs VGG's weights once: ctsr weights fetch vgg16

    ctsr finetune

    ctsr finetune --pretrained_g runs/rrdb_x2_blurnoise_20260101-120000 --epochs 30 --lambda_perc 0.1 --lambda_gan 0.005

    ctsr finetune --perceptual none --discriminator unet --out_dir finetune_outputs

    torchrun --nproc_per_node=2 -m ctsr finetune
    """

    finetune: FinetuneOptions = field(default_factory=FinetuneOptions)
    degradation: DegradationFlags = field(default_factory=DegradationFlags)
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when a series could not be used."""
        from ctsr.train.finetune import finetune

        result = finetune(self.finetune, self.degradation.over, given=self.common.given, progress=console)
        return show_result(console, result)
