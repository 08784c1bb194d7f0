"""`ctsr quantize`."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.paths import check_free, native_path
from ctsr.quantization.options import QuantizeOptions


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """Quantize a model to 8-bit integers, for `--precision int8` of upscale, evaluate and view.

    The quantized model is compared with the original on validation patients and written only if its loss is small.

    ctsr quantize runs/edsr_x2_blurnoise_20260101-120000

    ctsr quantize my.safetensors --data_root EXAMS --steps 1000
    """

    model: tyro.conf.Positional[str | None] = None
    """Checkpoint file, run folder or name; left out, the newest run, else the model that comes with ctsr."""
    quantize: QuantizeOptions = field(default_factory=QuantizeOptions)
    out: Path | None = None
    """File to write; default: <name>.int8.safetensors beside the model, where the other commands find it.
    Required for bundled models."""
    overwrite: bool = False
    """Replace an existing file."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status: 0, or 1 if the loss was too large or a series could not be used."""
        from ctsr.checkpoint import find_model
        from ctsr.checkpoint.model_lookup import check_own_folder
        from ctsr.quantization.quantize import quantize
        from ctsr.quantization.quantized_model import quantized_path, save_quantized

        model = find_model(self.model, progress=console)
        if self.out is None:
            check_own_folder(model.path)
        out = native_path(self.out) if self.out else quantized_path(model.path)
        check_free(out, model.path, overwrite=self.overwrite)
        result = quantize(model, self.quantize, progress=console)
        console.print(f"int8 {result.acceptance.text}")
        if result.failures:
            console.error(f"{len(result.failures)} series were not used, see above")
        if not result.acceptance.passes:
            console.error("not written: try more --steps, or exams similar to the training data")
            return 1
        save_quantized(out, result.model)
        console.print(f"written: {out}")
        return int(bool(result.failures))
