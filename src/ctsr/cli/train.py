"""`ctsr train`."""

from dataclasses import dataclass, field

from ctsr.cli.console import Console
from ctsr.cli.degradation_flags import DegradationFlags
from ctsr.cli.options import Common
from ctsr.train.options import TrainOptions

__all__ = ["Train"]


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train an RRDB generator with L1 on patches of degraded CT.

    ctsr train

    ctsr train --data_root preprocessed_data --scale 4 --degradation blur

    ctsr train --nf 32 --nb 4 --gc 16 --patch_size 96        (a small net, for a laptop)

    ctsr train --resume runs/rrdb_x2_blurnoise_20260101-120000
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    degradation: DegradationFlags = field(default_factory=DegradationFlags)
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when a series could not be used."""
        from ctsr.degrade import Degradation
        from ctsr.train.run import degradation_of, train

        options, flags = self.train, self.degradation
        resumed = degradation_of(options.resume) if options.resume is not None and flags.given() else None
        degradation = (
            None if options.resume and not resumed else flags.over(resumed or Degradation(scale=options.scale))
        )
        result = train(options, degradation, given=self.common.given, progress=console)
        if not result.leads:
            return 0
        if result.state.history:
            console.print(
                f"best epoch {result.state.best_epoch} of {result.state.epochs_done}: "
                f"validation L1 {result.state.best:.5f}"
            )
            console.print(f"model: {result.best}")
        if result.failures:
            console.error(f"{len(result.failures)} series were left out, see above")
        return int(bool(result.failures))
