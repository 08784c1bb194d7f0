"""`ctsr params`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ctsr.cli.cells import pixels
from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.text import size

if TYPE_CHECKING:  # torch is imported when there is something to count, not for `--help`
    from ctsr.models import Architecture
    from ctsr.models.profile import Profile

__all__ = ["Params"]


@dataclass(frozen=True, kw_only=True)
class Params:
    """Count a network's parameters, operations and memory for one image.

    ctsr params --scale 4

    ctsr params --arch edsr --nf 32 --nb 6

    ctsr params --model_path runs/rrdb_x2_blurnoise_20250912-114004 --input_size 512 512 --profile
    """

    model_path: str | None = None
    """Count the network of this checkpoint (a file, a run folder, or a name); its weights tell the next five."""
    arch: Literal["rrdb", "rrdb_skip", "edsr", "plain"] = "rrdb"
    """The network, as `ctsr train --arch` has it."""
    scale: Literal[2, 4] = 2
    """How many times finer SR is than LR."""
    nf: int = 64
    """Channels of the trunk."""
    nb: int = 23
    """Number of its blocks: residual-in-residual dense blocks, residual blocks or convolutions."""
    gc: int = 32
    """Growth: channels that each convolution of a dense block adds; without dense blocks it means nothing."""
    input_size: tuple[int, int] = (256, 256)
    """Height and width of the low-resolution image, in pixels."""
    profile: bool = False
    """Also count by part of the network, and time a forward pass on the CPU."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0."""
        from ctsr.models import build
        from ctsr.models.profile import profile, seconds_per_forward

        architecture = self._architecture(console)
        cost = profile(architecture, self.input_size)
        console.table(str(architecture), ("quantity", "value"), _totals(architecture, cost))
        if self.profile:
            console.print()
            console.table("By part", ("part", "convolutions", "parameters", "GMAC", "output"), _parts(cost))
            console.print()
            seconds = seconds_per_forward(build(architecture).eval(), self.input_size)
            console.print(f"forward pass on the CPU: {seconds:.3f} s, {2e-9 * cost.macs / seconds:.0f} GFLOP/s")
        return 0

    def _architecture(self, console: Console) -> "Architecture":
        from ctsr.checkpoint import find_model
        from ctsr.models import Architecture

        if self.model_path is None:
            return Architecture(self.arch, self.scale, self.nf, self.nb, self.gc)
        return find_model(self.model_path, progress=console).architecture


def _totals(architecture: "Architecture", cost: "Profile") -> list[tuple[str, str]]:
    from ctsr.models import receptive_radius

    height, width = cost.input_size
    scale = architecture.scale
    return [
        ("image", f"{pixels(height, width)} → {pixels(scale * height, scale * width)}"),
        ("parameters", f"{cost.parameters:,}".replace(",", " ")),
        ("multiply-accumulates", f"{cost.macs / 1e9:,.1f} G".replace(",", " ")),
        ("receptive field", f"± {receptive_radius(architecture)} LR pixels"),
        ("weights", size(cost.weight_bytes)),
        ("activations, inference", f"{size(cost.inference_bytes)} at most at once, float32"),
        ("activations, training", f"{size(cost.training_bytes)} kept for each sample of this size, float32"),
        ("weights, gradients and Adam", f"{size(cost.optimizer_bytes)} in training, whatever the batch"),
    ]


def _parts(cost: "Profile") -> list[tuple[str, ...]]:
    return [
        (g.name, str(g.convolutions), str(g.parameters), f"{g.macs / 1e9:.2f}", pixels(*g.output_shape))
        for g in cost.groups
    ]
