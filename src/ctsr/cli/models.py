"""`ctsr models`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import tyro

from ctsr.cli.cells import NONE, mm
from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.errors import UsageError
from ctsr.text import size

if TYPE_CHECKING:  # torch is imported when there is something to load, not for `--help`
    from ctsr.checkpoint.model_lookup import BundledModel

__all__ = ["Models"]


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the models that come with ctsr; or show what is written about one.

    ctsr models

    ctsr models ctsr-x2
    """

    name: tyro.conf.Positional[str | None] = None
    """A model of the list, or a safetensors file: shows its card."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0."""
        from ctsr.checkpoint.model_lookup import BUNDLED

        if self.name is not None:
            console.print(_card(self.name, console))
            return 0
        columns = ("name", "network", "trained on pixels of mm", "size", "licence", "SHA-256")
        console.table("Models that come with ctsr", columns, [_row(model) for model in BUNDLED.values()])
        console.print("the first is used where no run is found; name another with --model_path")
        return 0


def _row(model: "BundledModel") -> tuple[str, ...]:
    from ctsr.checkpoint import load_model

    generator = load_model(model.file)
    spacing = generator.meta.card.pixel_spacing_mm if generator.meta else None
    return (
        model.name,
        str(generator.architecture),
        " – ".join(mm(one) for one in spacing) if spacing else NONE,
        size(model.file.stat().st_size),
        model.licence,
        generator.sha256,
    )


def _card(reference: str, console: Console) -> str:
    from ctsr.checkpoint import resolve_model
    from ctsr.checkpoint.checkpoint_io import PACKED, read_card

    resolved = resolve_model(reference)
    if resolved.note:
        console.note(resolved.note)
    card = read_card(resolved.path) if resolved.path.suffix == PACKED else ""
    if not card:
        raise UsageError(f"{resolved.path} carries no card; `ctsr models` lists models that do")
    return card
