"""`ctsr export`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.paths import native_path, resolve_path

__all__ = ["Export"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a model for other programs, verified against PyTorch at several sizes; the file carries its meta.

    ctsr export model.onnx --model_path runs/rrdb_x2_blurnoise_20250912-114004

    ctsr export model.xml --format openvino

    ctsr export model.safetensors --format safetensors --card about.md
    """

    out: tyro.conf.Positional[Path | None] = None
    """The file to write; the checkpoint's name with the format's ending when left out."""
    model_path: str | None = None
    """Checkpoint file, run folder or name; left out, the newest run, else the model that comes with ctsr."""
    format: Literal["onnx", "openvino", "torchscript", "safetensors"] = "onnx"
    """Of the file; its height and width are free in each. safetensors is the weights alone, to pass a model on."""
    card: Path | None = None
    """Markdown file about the model, which goes into a safetensors file; `ctsr models FILE` shows it."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0."""
        from ctsr.checkpoint import find_generator
        from ctsr.infer.export import SUFFIXES, export

        generator = find_generator(self.model_path, progress=console)
        out = native_path(self.out) if self.out else Path(generator.path.stem)
        path = out if out.suffix else out.with_suffix(SUFFIXES[self.format])
        card = resolve_path(self.card, progress=console).read_text(encoding="utf-8") if self.card else ""
        exported = export(generator, path, self.format, card)
        columns = ("LR pixels", "largest difference from PyTorch, HU")
        rows = [(f"{h} × {w}", f"{hu:.5f}") for (h, w), hu in exported.differences_hu.items()]
        console.table(f"{generator.architecture} as {self.format}", columns, rows)
        console.print(f"written: {exported.path}")
        return 0
