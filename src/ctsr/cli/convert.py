"""`ctsr export`, `ctsr quantize` and `ctsr blend`: files made from models."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.paths import check_free, native_path, resolve_path
from ctsr.quantization.options import QuantizeOptions


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a model for other programs, verified against PyTorch at several sizes; the file carries its meta.

    ctsr export model.onnx --model_path runs/rrdb_x2_blurnoise_20250912-114004

    ctsr export model.xml

    ctsr export model.safetensors --card about.md
    """

    out: tyro.conf.Positional[Path | None] = None
    """The file to write, in the format of its ending; the checkpoint's name when left out."""
    model_path: str | None = None
    """Checkpoint file, run folder or name; left out, the newest run, else the model that comes with ctsr."""
    format: Literal["onnx", "openvino", "torchscript", "safetensors"] | None = None
    """Of a file without a known ending, onnx when left out; height and width are free in each. safetensors is the
    weights alone, to pass a model on."""
    card: Path | None = None
    """Markdown file about the model, for a safetensors file, in place of its own card; `ctsr models FILE` shows it."""
    overwrite: bool = False
    """Replace a file that is there; the model itself is never replaced."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0."""
        from ctsr.checkpoint import find_model
        from ctsr.infer.export import export, target

        model = find_model(self.model_path, kind="any", progress=console)
        path, kind = target(native_path(self.out) if self.out else None, self.format, model.path)
        card = resolve_path(self.card, progress=console).read_text(encoding="utf-8") if self.card else None
        exported = export(model, path, kind, card, overwrite=self.overwrite)
        columns = ("LR pixels", "largest difference from PyTorch, HU")
        rows = [(f"{h} × {w}", f"{hu:.5f}") for (h, w), hu in exported.differences_hu.items()]
        console.table(f"{model.architecture} as {kind}", columns, rows)
        console.print(f"written: {exported.path}")
        return 0


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


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Mix two generators, weight by weight: how much of the fine-tuning is wanted, chosen afterwards.

    ctsr blend runs/rrdb_x2_blurnoise_20260101-120000 finetune_outputs --alpha 0.3

    `ctsr evaluate --model_path B --pretrained_g A --alphas 0 0.25 0.5 0.75 1` shows what each share brings and costs.
    """

    first: tyro.conf.Positional[str]
    """Generator at alpha 0, usually trained with L1: a file, a run folder or a name."""
    second: tyro.conf.Positional[str]
    """Generator at alpha 1, usually fine-tuned from the first."""
    alpha: float = 0.5
    """Share of the second, from 0 to 1."""
    out: Path | None = None
    """File to write; beside the second, as <name>_alpha<alpha>.pth, when left out."""
    overwrite: bool = False
    """Replace a file that is there."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0."""
        from ctsr.checkpoint import load_model, resolve_model
        from ctsr.checkpoint.model import blended_path, save_blend
        from ctsr.checkpoint.model_lookup import check_own_folder

        found = [resolve_model(name) for name in (self.first, self.second)]
        for resolved in found:
            if resolved.note:
                console.note(resolved.note)
        first, second = load_model(found[0].path), load_model(found[1].path)
        if self.out is None:
            check_own_folder(second.path)
        out = self.out or blended_path(second.path, self.alpha)
        check_free(out, first.path, second.path, overwrite=self.overwrite)
        save_blend(out, first, second, self.alpha)
        console.print(f"{1 - self.alpha:g} × {first.path} + {self.alpha:g} × {second.path}")
        console.print(f"model: {out}")
        return 0
