"""`ctsr blend`."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.paths import check_free

__all__ = ["Blend"]


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
        for note in (one.note for one in found if one.note):
            console.note(note)
        first, second = (load_model(one.path) for one in found)
        if self.out is None:
            check_own_folder(second.path)
        out = self.out or blended_path(second.path, self.alpha)
        check_free(out, first.path, second.path, overwrite=self.overwrite)
        save_blend(out, first, second, self.alpha)
        console.print(f"{1 - self.alpha:g} × {first.path} + {self.alpha:g} × {second.path}")
        console.print(f"model: {out}")
        return 0
