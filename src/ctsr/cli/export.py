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

        model = find_model(self.model_path, progress=console)
        path, kind = target(native_path(self.out) if self.out else None, self.format, model.path)
        card = resolve_path(self.card, progress=console).read_text(encoding="utf-8") if self.card else None
        exported = export(model, path, kind, card, overwrite=self.overwrite)
        columns = ("LR pixels", "largest difference from PyTorch, HU")
        rows = [(f"{h} × {w}", f"{hu:.5f}") for (h, w), hu in exported.differences_hu.items()]
        console.table(f"{model.architecture} as {kind}", columns, rows)
        console.print(f"written: {exported.path}")
        return 0
