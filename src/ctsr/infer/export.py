"""A network in a form that other programs run, its meta inside, verified against PyTorch before it gets its name."""

import dataclasses
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn

from ctsr import __version__
from ctsr.checkpoint import Model, load_model
from ctsr.checkpoint.files import PACKED, read_card, save_packed
from ctsr.errors import CheckpointError, UsageError
from ctsr.files import PART
from ctsr.hu import HURange
from ctsr.infer.engine import EXAMPLE_SIDE, OpenvinoEngine, convert, import_openvino
from ctsr.models.conditioning import FOLD, input_channels, is_through_plane
from ctsr.paths import check_free

Format: TypeAlias = Literal["onnx", "openvino", "torchscript", "safetensors"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt", "safetensors": PACKED}
NEEDS: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "torchscript": (),
    "safetensors": (),
}
EXTRA: dict[Format, str] = {"onnx": "export", "openvino": "fast"}
WEIGHTS = ".bin"
"""How OpenVINO's second file ends."""
META_KEY = "ctsr"
"""What the file holds its meta under, as JSON: ONNX metadata, OpenVINO runtime information, a file in TorchScript."""
SIZES = ((16, 16), (17, 31), (64, 40))
"""LR heights and widths on which the file is compared with PyTorch."""
MOST_HU = 0.1
"""HU by which it may differ."""

Run: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Exported:
    """A written file, and how far it is from PyTorch."""

    path: Path
    differences_hu: dict[tuple[int, int], float]
    """LR size → largest difference in HU."""


class Target(NamedTuple):
    """What is to be written."""

    path: Path
    kind: Format


def target(out: Path | None, kind: Format | None, model: Path) -> Target:
    """The file and its format, each told by the other where only one is given; ONNX where neither is.

    Args:
        out: a name without a known ending gets the format's; the model's own name when None.
        kind: the format; that of the ending of `out` when None.
        model: file of the model.

    Raises:
        UsageError: the ending is another format's.
    """
    if out is None:
        kind = kind or "onnx"
        return Target(Path(model.stem + SUFFIXES[kind]), kind)
    told: Format | None = next((known for known, suffix in SUFFIXES.items() if out.suffix == suffix), None)
    if told is None:
        kind = kind or "onnx"
        return Target(out.with_name(out.name + SUFFIXES[kind]), kind)
    if kind not in {None, told}:
        raise UsageError(f"{out} has the ending of {told}, not of `format={kind}`; leave out one of the two")
    return Target(out, told)


def export(model: Model, path: Path, kind: Format, card: str | None = None, *, overwrite: bool = False) -> Exported:
    """Write the network for other programs, its height and width free.

    Input ``(1, 1, h, w)``, output ``(1, 1, s·h, s·w)``, both float32 in [-1, 1]; the meta says which HU that is. The
    input of a conditional network is ``(1, 3, h, w)``: the image, its blur in HR pixels, its noise in [-1, 1] units.

    Args:
        model: the network, on the CPU.
        path: the file, another than the model's. OpenVINO puts its weights beside it, as `.bin`.
        kind: the format; safetensors is the weights alone, for ctsr itself.
        card: Markdown that goes into a safetensors file, the model's own when None; no other format has a place for it.
        overwrite: replace files that are there.

    Raises:
        UsageError: what writes or runs the format is not installed, or it has no place for a card; a file is there.
        CheckpointError: what was written does not do what PyTorch does, and nothing is left of it; or weights are to
            be passed on that do not say how they were trained.
    """
    if missing := [name for name in NEEDS[kind] if find_spec(name) is None]:
        raise UsageError(
            f"`format={kind}` needs {', '.join(missing)}: pip install '.[{EXTRA[kind]}]' in the source folder of ctsr"
        )
    if card and kind != "safetensors":
        raise UsageError(f"`card` goes into a safetensors file; {kind} cannot hold one")
    for file in (path, path.with_suffix(WEIGHTS)) if kind == "openvino" else (path,):
        check_free(file, model.path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    net, meta = model.net.cpu().eval(), json.dumps(_meta(model))
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=PART, dir=path.parent) as folder:
        part = Path(folder) / path.name
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # of tracing: what it warns of is verified below
            if kind == "safetensors":
                _pack(model, part, card)
            else:
                WRITERS[kind](net, part, meta)
        differences = _differences(net, RUNNERS[kind](part), model.hu_range)
        if not all(apart <= MOST_HU for apart in differences.values()):  # NaN is not, either
            raise CheckpointError(f"{path}: the exported network differs from PyTorch's: {differences} HU")
        for file in sorted(Path(folder).iterdir()):  # weights before the file that names them
            file.replace(path.parent / file.name)
    return Exported(path, differences)


def _meta(model: Model) -> dict[str, Any]:
    meta = model.meta
    return {
        "version": __version__,
        "model_sha256": model.sha256,
        "experiment": meta.experiment if meta else None,
        "architecture": dataclasses.asdict(model.architecture),
        "scale": model.scale,
        "hu_range": dataclasses.asdict(model.hu_range),
        "card": dataclasses.asdict(meta.card) if meta else None,
        "degradation": meta.degradation if meta else model.trained_for.as_dict(),
    }


def _differences(net: nn.Module, run: Run, hu_range: HURange) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    random = torch.Generator().manual_seed(0)
    fold = FOLD if is_through_plane(net) else 1
    for height, width in SIZES:
        size = height - height % fold, width - width % fold
        lr = torch.rand(1, input_channels(net), *size, generator=random) * 2 - 1
        with torch.inference_mode():
            expected, answer = net(lr), run(lr)
        if answer.shape != expected.shape:
            raise CheckpointError(f"the exported network returns {tuple(answer.shape)}, not {tuple(expected.shape)}")
        found[size] = float((answer - expected).abs().max()) * hu_range.hu_per_unit
    return found


def _example(net: nn.Module) -> Tensor:
    return torch.zeros(1, input_channels(net), EXAMPLE_SIDE, EXAMPLE_SIDE)


def _write_onnx(net: nn.Module, path: Path, meta: str) -> None:
    import onnx

    free = {"lr": {2: "height", 3: "width"}, "sr": {2: "sr_height", 3: "sr_width"}}
    torch.onnx.export(
        net, (_example(net),), str(path), input_names=["lr"], output_names=["sr"], dynamic_axes=free, dynamo=False
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {META_KEY: meta})
    onnx.save(model, path)


def _run_onnx(path: Path) -> Run:
    # It would keep an identity for its maker in the user's home and send what it ran; it reads this where it is loaded.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    # By name: the list is a C extension's, of which the type checker knows nothing.
    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda lr: torch.from_numpy(session.run(["sr"], {"lr": lr.numpy()})[0])


def _write_openvino(net: nn.Module, path: Path, meta: str) -> None:
    model = convert(net)
    model.set_rt_info(meta, [META_KEY])
    import_openvino().save_model(model, path, compress_to_fp16=False)


def _write_torchscript(net: nn.Module, path: Path, meta: str) -> None:
    torch.jit.save(torch.jit.trace(net, _example(net)), path, _extra_files={f"{META_KEY}.json": meta})


def _run_torchscript(path: Path) -> Run:
    return cast("Run", torch.jit.load(path))


def _pack(model: Model, path: Path, card: str | None) -> None:
    if card is None:
        card = read_card(model.path) if model.path.suffix == PACKED else ""
    if model.meta is None:
        raise CheckpointError(f"{model.path} does not say how it was trained, and so cannot be passed on")
    save_packed(path, model.meta.without_names(), model.net.state_dict(), card)


def _run_packed(path: Path) -> Run:
    return load_model(path).net


WRITERS: dict[Format, Callable[[nn.Module, Path, str], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torchscript": _write_torchscript,
}
RUNNERS: dict[Format, Callable[[Path], Run]] = {
    "onnx": _run_onnx,
    "openvino": OpenvinoEngine,
    "torchscript": _run_torchscript,
    "safetensors": _run_packed,
}
