"""`python -m benchmarks.int8 CT FOLDER MODEL`: what each step towards 8-bit integers brings a model, and costs.

Every variant runs in OpenVINO beside the model's fp32 on the same whole slices: PSNR lost to HR and shift of the mean
on the validation patient and on the test patients, none of whom calibrated or trained anything; and the ratio of CPU
times on one slice, taken in turn. The ranges are set on patches of the training part. `--speed` prints that ratio
alone, of a network whose ranges the synthetic exam set has set: it needs no CT.
"""

import argparse
import contextlib
import importlib.util
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.race import RESAMPLED, ROOTS
from ctsr.checkpoint import Model, find_model
from ctsr.data.datasets import SplitExams, open_exams
from ctsr.data.pairs import slice_pair
from ctsr.degrade import DegradationSampler
from ctsr.infer.conditions import network_input
from ctsr.infer.engine import OpenvinoEngine, convert, converted, import_openvino
from ctsr.models import TRUNKS
from ctsr.models.conditioning import input_channels
from ctsr.quantization import QuantizeOptions
from ctsr.quantization.acceptance import Pair, SyntheticSlices, compare_engines
from ctsr.quantization.calibration import OUTLIERS, calibrate_ranges, calibrated, correct_bias, fake_quantized
from ctsr.quantization.quantized_model import CALIBRATION_BATCHES, PatchBatches, finetune

SPLIT = Path("recipes/split.json")
PARTS = ("val", "test")
SLICES = 3
"""Of each series."""
TIMED = 256
"""Side in LR pixels of the slice that is timed."""
ROUNDS = 9
TRACED = "__module."
"""What the name of an operation begins with, before that of the part of the network that it comes from."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A model, the images that calibrate its variants, and those that judge them."""

    generator: Model
    patches: PatchBatches | None
    """None where nothing is trained."""
    judges: dict[str, list[Pair]]
    """By part of the split."""
    folder: Path

    @property
    def exact(self) -> OpenvinoEngine:
        """The model in fp32."""
        return OpenvinoEngine(converted(self.generator.net, self.folder / "engines"), threads=1)

    def quantized(self, net: nn.Module) -> OpenvinoEngine:
        """A quantized network as OpenVINO runs it."""
        return OpenvinoEngine(converted(net, self.folder / "engines"), "int8", threads=1)

    def report(self, name: str, engine: OpenvinoEngine) -> None:
        """One row of the table."""
        exact, hu_range = self.exact, self.generator.hu_range
        results = [compare_engines(engine, exact, self.judges[part], hu_range) for part in PARTS]
        cells = " | ".join(f"{one.loss_db:+.3f} | {one.bias_hu:+.2f}" for one in results)
        passed = "yes" if all(one.passes for one in results) else "no"
        ratio = _ratio(engine, exact, input_channels(self.generator.net))
        print(f"| {name} | {cells} | {passed} | ×{ratio:.2f} |", flush=True)


def _ratio(fast: OpenvinoEngine, exact: OpenvinoEngine, channels: int) -> float:
    """How many times the CPU time of the one fp32 takes; the least of several of each, in turn."""
    image = torch.zeros(1, channels, TIMED, TIMED)
    seconds: dict[OpenvinoEngine, list[float]] = {fast: [], exact: []}
    for engine in seconds:
        engine(image)
    for _ in range(ROUNDS):
        for engine, found in seconds.items():
            started = time.process_time()
            engine(image)
            found.append(time.process_time() - started)
    return min(seconds[exact]) / min(seconds[fast])


def post_training(bench: Bench, images: Sequence[Tensor]) -> None:
    """By nncf (`pip install -c constraints.txt nncf`), from naive on; each row keeps what the one before it did."""
    if importlib.util.find_spec("nncf") is None:
        print("nncf is not installed: its rows are left out")
        return
    nncf = _nncf_module()
    nncf.set_log_level("ERROR")
    importlib.import_module("nncf.quantization.range_estimator")
    covering = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
    parameters = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=covering)
    outer = nncf.IgnoredScope(names=_outside_trunk(convert(bench.generator.net)))
    bench.report("a: nncf, everything", _nncf(bench, images))
    bench.report("b: first and last convolution in fp32", _nncf(bench, images, ignored_scope=outer))
    wide = _nncf(bench, images, ignored_scope=outer, advanced_parameters=parameters)
    bench.report("b: and ranges that cover all images", wide)


def _nncf_module() -> Any:
    import_openvino()  # declines telemetry, which is nncf's as well
    return importlib.import_module("nncf")


def _outside_trunk(model: Any) -> list[str]:
    """Names of the convolutions outside the trunk."""
    convolutions = (one for one in model.get_ordered_ops() if one.get_type_name() == "Convolution")
    names = (str(one.get_friendly_name()) for one in convolutions)
    return [name for name in names if not name.removeprefix(TRACED).startswith(TRUNKS)]


def _nncf(bench: Bench, images: Sequence[Tensor], **options: Any) -> OpenvinoEngine:
    nncf = _nncf_module()
    singles = [one[None].numpy() for image in images for one in image]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        model = nncf.quantize(
            convert(bench.generator.net),
            nncf.Dataset(singles),
            subset_size=len(singles),
            preset=nncf.QuantizationPreset.MIXED,
            **options,
        )
    path = bench.folder / "nncf" / "model.xml"
    import_openvino().save_model(model, path, compress_to_fp16=False)
    return OpenvinoEngine(path, "int8", threads=1)


def quantized_in_pytorch(
    bench: Bench, images: Sequence[Tensor], options: QuantizeOptions, outliers: float = OUTLIERS
) -> None:
    """Ours: residual sums in fp32; ranges, mean, training."""
    teacher = bench.generator.net
    net = fake_quantized(teacher)
    calibrate_ranges(net, images, outliers=0)
    bench.report("c: quantized by ctsr: sums of residuals in fp32", bench.quantized(net))
    calibrate_ranges(net, images, outliers)
    bench.report(f"c: and ranges without {outliers:.3%} on each side", bench.quantized(net))
    correct_bias(net, teacher, images)
    bench.report("c: and the mean corrected", bench.quantized(net))
    assert bench.patches is not None, "main gives them"
    started = time.process_time()
    finetune(net, teacher, bench.patches.batches("steps", options.steps), options)
    correct_bias(net, teacher, images)
    minutes = (time.process_time() - started) / 60
    bench.report(f"d: and {options.steps} steps of training ({minutes:.1f} CPU min)", bench.quantized(net))
    with torch.inference_mode():
        lr = bench.judges["val"][0].lr
        hu = (bench.quantized(net)(lr) - net(lr)) * bench.generator.hu_range.hu_per_unit
    print(
        f"\nOpenVINO − fake quantization in PyTorch: mean {hu.mean():+.4f} HU, mean absolute {hu.abs().mean():.2f} HU"
    )


def judges(exams: SplitExams, generator: Model, store: Path) -> Iterator[tuple[str, list[Pair]]]:
    """Slices of validation and test patients, evenly spread, with their LR."""
    sampler = DegradationSampler(generator.degradation)
    for part in PARTS:
        pairs: list[Pair] = []
        for one in exams.part(part, "evaluate", store).series:
            for number in range(SLICES):
                pair = slice_pair(one, (2 * number + 1) * len(one) // (2 * SLICES), sampler, generator.hu_range)
                conditional = generator.architecture.conditional
                told = network_input(pair.lr, [pair.draw.params], scale=generator.scale, conditional=conditional)
                pairs.append(Pair(told, pair.hr))
        yield part, pairs


def main() -> None:
    """Print the table of one model as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, metavar="CT", help="folder with the roots patients and singles")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where training has put its data")
    parser.add_argument("model", metavar="MODEL", help="bundled model, run folder or checkpoint")
    parser.add_argument("--steps", type=int, default=QuantizeOptions.steps, help="of training")
    parser.add_argument("--outliers", type=float, default=OUTLIERS, help="share of values beyond a range")
    parser.add_argument("--speed", action="store_true", help="only how much faster it is; no CT is read")
    given = parser.parse_args()
    torch.set_num_threads(1)
    generator = find_model(given.model)
    if given.speed:
        bench = Bench(generator, None, {}, given.folder)
        images = [torch.from_numpy(image) for image in SyntheticSlices().images(generator)]
        engine = bench.quantized(calibrated(generator.net, images))
        print(f"{given.model}: INT8 ×{_ratio(engine, bench.exact, input_channels(generator.net)):.2f}")
        return
    roots = tuple(parent / root for parent in (given.ct, given.folder / RESAMPLED) for root in ROOTS)
    exams, store = open_exams(roots, split_json=SPLIT), given.folder / "store"
    options = QuantizeOptions(steps=given.steps)
    patches = PatchBatches(exams.part("train", "train", store).series, generator, options)
    bench = Bench(generator, patches, dict(judges(exams, generator, store)), given.folder)
    images = [batch.lr for batch in patches.batches("ranges", CALIBRATION_BATCHES)]
    print(f"{generator.architecture}; slices judged on: " + ", ".join(f"{k} {len(v)}" for k, v in bench.judges.items()))
    print("\n| step | val: dB lost | bias, HU | test: dB lost | bias, HU | passes | speed |")
    print("|---|---:|---:|---:|---:|---|---:|", flush=True)
    post_training(bench, images)
    quantized_in_pytorch(bench, images, options, given.outliers)


if __name__ == "__main__":
    main()
