"""`ctsr train` and `ctsr finetune`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctsr.cli.console import Console
from ctsr.cli.options import Common, DegradationFlags
from ctsr.train.options import FinetuneOptions, TrainOptions

if TYPE_CHECKING:  # torch is imported when there is something to train, not for `--help`
    from ctsr.train.session import TrainResult


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a generator with L1 on patches of degraded CT.

    ctsr train

    ctsr train --data_root preprocessed_data --scale 4 --degradation blur

    ctsr train --arch edsr --nf 32 --nb 6 --patch_size 96        (a small net, for a laptop)

    ctsr train --resume runs/rrdb_x2_blurnoise_20260101-120000

    ctsr train --through_plane --nf 48 --nb 6 --patch_size 96        (slices between slices)

    torchrun --nproc_per_node=2 -m ctsr train
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    degradation: DegradationFlags = field(default_factory=DegradationFlags)
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when a series could not be used."""
        from ctsr.train.run import train

        result = train(self.train, self.degradation.over, given=self.common.given, progress=console)
        return show_result(console, result)


def show_result(console: Console, result: "TrainResult") -> int:
    """Where the model is, and which epoch it is from; the exit status."""
    if not result.leads:
        return 0
    state = result.state
    if state.history:
        console.print(f"best epoch {state.best_epoch} of {state.epochs_done}: {result.headline}")
        console.print(f"model: {result.best}")
    if result.failures:
        console.error(f"{len(result.failures)} series were left out, see above")
    return int(bool(result.failures))


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
