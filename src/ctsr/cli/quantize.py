"""`ctsr quantize`."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.paths import check_free, native_path
from ctsr.train.quantize_options import QuantizeOptions

__all__ = ["Quantize"]


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """Make a model's twin in 8-bit integers, which `--precision int8` of upscale and evaluate then uses.

    It is checked against the model on patients that it was not made with, and kept only if it is as good.

    ctsr quantize runs/edsr_x2_blurnoise_20260101-120000

    ctsr quantize my.safetensors --data_root EXAMS --steps 1000
    """

    model: tyro.conf.Positional[str | None] = None
    """Checkpoint file, run folder or name; left out, the newest run, else the model that comes with ctsr."""
    quantize: QuantizeOptions = field(default_factory=QuantizeOptions)
    out: Path | None = None
    """File to write; beside the model, as <name>.int8.safetensors, when left out. It is used where it lies there.
    A model that comes with ctsr has no place beside it."""
    overwrite: bool = False
    """Replace a file that is there."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 when the twin is not good enough or a series could not be used."""
        from ctsr.checkpoint import find_generator
        from ctsr.checkpoint.bundled import check_own_folder
        from ctsr.checkpoint.int8 import int8_beside, save_int8
        from ctsr.train.quantize import quantize

        generator = find_generator(self.model, progress=console)
        if self.out is None:
            check_own_folder(generator.path)
        out = native_path(self.out) if self.out else int8_beside(generator.path)
        check_free(out, generator.path, overwrite=self.overwrite)
        made = quantize(generator, self.quantize, progress=console)
        console.print(f"int8 {made.verdict.text}")
        if made.failures:
            console.error(f"{len(made.failures)} series were left out, see above")
        if not made.verdict.passes:
            console.error("not written: try more --steps, or exams that are more like those of the training")
            return 1
        save_int8(out, made.twin)
        console.print(f"written: {out}")
        return int(bool(made.failures))
