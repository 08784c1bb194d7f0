"""Quantization-aware training: ranges are calibrated on patches of the training part, then weights are fine-tuned."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch
from torch import nn

from ctsr.checkpoint import Model
from ctsr.data.datasets import SplitExams, open_exams
from ctsr.data.hu_cache import Opened, StoredSeries, default_store
from ctsr.data.pairs import EpochSampler, PatchDataset, PatchPair, Ticket, slice_pair
from ctsr.degrade import DegradationSampler
from ctsr.errors import MissingInputError, SplitError, UsageError
from ctsr.hashing import pseudonym, seed_from, with_names
from ctsr.infer.conditions import network_input
from ctsr.infer.engine import GET_IT, OpenvinoEngine, converted, is_installed
from ctsr.losses import l1_loss
from ctsr.models.conditioning import is_conditional
from ctsr.paths import resolve_path
from ctsr.quantization.acceptance import Acceptance, Pair, compare_engines, native_pairs
from ctsr.quantization.calibration import QuantizedConv2d, calibrate_ranges, correct_bias, fake_quantized
from ctsr.quantization.options import QuantizeOptions
from ctsr.quantization.quantized_model import QuantizationRecord, QuantizedModel
from ctsr.reporting import SILENT, Progress, listed
from ctsr.series_quality import spread_indices

CALIBRATION_BATCHES = 12
"""Batches of patches for calibration and bias correction."""
NATIVE_SERIES = 12
"""Series, evenly along the training part, of which a slice as it is takes part in the calibration: real images of sharp
kernels hold what no degraded one does."""
ACCEPTANCE_SLICES = 8
"""Maximum number of validation slices, evenly spread, for the comparison with fp32."""
FINAL_RATE = 0.01
"""Learning rate of the last step, relative to that of the first."""


@dataclass(frozen=True, eq=False)
class QuantizationResult:
    """Result of a quantization."""

    model: QuantizedModel
    acceptance: Acceptance
    """Comparison with fp32 on the validation part, both computed by OpenVINO."""
    failures: tuple[str, ...]
    """One line per series that could not be used."""


def quantize(
    model: Model, options: QuantizeOptions, *, cache: Path | None = None, progress: Progress = SILENT
) -> QuantizationResult:
    """Quantize a model and compare it with fp32 on the validation part.

    Args:
        model: the model; not modified.
        options: exams, patches and training.
        cache: folder of converted networks; the user's if None.
        progress: told of the split and of each step.

    Raises:
        MissingInputError: a root does not exist, or a part has no usable series.
        SplitError: see `ctsr.data.split.choose_split`; or the training part contains patients that the model was
            validated or tested on.
        UsageError: the patch size fits neither scale nor slices, or OpenVINO is not installed.
    """
    if options.patch_size < model.scale or options.patch_size % model.scale:
        fitting = max(model.scale, options.patch_size - options.patch_size % model.scale)
        raise UsageError(f"`patch_size` {options.patch_size} is not divisible by the scale {model.scale}; {fitting} is")
    if not is_installed():
        raise UsageError(f"quantization is checked in OpenVINO, which is not installed: {GET_IT}")
    exams = _exams(model, options, progress)
    train = _part(exams, "train", options, progress)
    val = _part(exams, "val", options, progress)
    _check_patch_fits(options.patch_size, model.scale, train.series)
    patches = PatchBatches(train.series, model, options)
    net = fake_quantized(model.net)
    batches = patches.batches("ranges", CALIBRATION_BATCHES)
    conditional = model.architecture.conditional
    tracked = progress.track(batches, total=CALIBRATION_BATCHES, what="Calibrating")
    images = [network_input(batch.lr, batch.params, scale=model.scale, conditional=conditional) for batch in tracked]
    images += [pair.lr for pair in _native(train.series, model, NATIVE_SERIES)]
    calibrate_ranges(net, images)
    steps = progress.track(patches.batches("steps", options.steps), total=options.steps, what="Training")
    finetune(net, model.net, steps, options)
    correct_bias(net, model.net, images)
    acceptance = _accept(net, model, val.series, cache)
    record = QuantizationRecord(
        model_sha256=model.sha256,
        patients=tuple(sorted({pseudonym(series.patient_id) for series in train.series})),
        steps=options.steps,
        loss_db=acceptance.loss_db,
        bias_hu=acceptance.bias_hu,
        num_slices=acceptance.num_slices,
        tissue_bias_hu=acceptance.tissue_bias_hu,
        most_apart_hu=acceptance.most_apart_hu,
    )
    failures = (*exams.failures, *train.failures, *val.failures)
    return QuantizationResult(QuantizedModel(net, record), acceptance, failures)


def finetune(net: nn.Module, teacher: nn.Module, batches: Iterator[PatchPair], options: QuantizeOptions) -> None:
    """Train the weights of a calibrated network with fixed ranges.

    The loss is L1 to the output of `teacher` plus L1 to HR. Gradients pass through the quantizers unchanged
    (straight-through estimator).
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=options.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps, FINAL_RATE * options.lr)
    convs = [module for module in net.modules() if isinstance(module, QuantizedConv2d)]
    for batch in batches:
        inputs = network_input(batch.lr, batch.params, scale=batch.scale, conditional=is_conditional(teacher))
        with torch.no_grad():
            target = teacher(inputs)
        sr = net(inputs)
        optimizer.zero_grad()
        torch.autograd.backward(l1_loss(sr, target) + l1_loss(sr, batch.hr))
        optimizer.step()
        scheduler.step()
        for conv in convs:
            conv.clamp_weights()


def _check_patch_fits(size: int, scale: int, series: Sequence[StoredSeries]) -> None:
    """Refuse patches that would consist mainly of reflections: ranges would be set on images that do not occur."""
    longest = max(max(stored.rows, stored.columns) for stored in series)
    if size > longest:
        raise UsageError(f"`patch_size` {size} is larger than every training slice; {longest - longest % scale} fits")


@dataclass(frozen=True, eq=False)
class PatchBatches:
    """Random patches of the training part."""

    series: tuple[StoredSeries, ...]
    model: Model
    options: QuantizeOptions

    def batches(self, use: str, number: int) -> Iterator[PatchPair]:
        """Yield `number` batches, reproducible and different for each `use`."""
        seed = seed_from(self.options.seed, use)
        dataset = PatchDataset(
            self.series,
            patch_size=self.options.patch_size,
            degradation=self.model.trained_for,
            hu_range=self.model.hu_range,
            seed=seed,
            augment=True,
        )
        tickets = _endless(EpochSampler(len(dataset), seed=seed))
        for _ in range(number):
            yield dataset.__getitems__(list(islice(tickets, self.options.batch_size)))


def _endless(sampler: EpochSampler) -> Iterator[Ticket]:
    """Yield the tickets of epoch after epoch."""
    for sampler.epoch in count():
        yield from sampler


def _exams(model: Model, options: QuantizeOptions, progress: Progress) -> SplitExams:
    """Open the roots with the model's own split: test patients must not be used for calibration."""
    roots = [resolve_path(root, progress=progress) for root in options.data_root]
    named = None if options.split_json is None else resolve_path(options.split_json, progress=progress)
    known = model.meta.split if model.meta else None
    exams = open_exams(
        roots, split_json=named, checkpoint_split=known, correction=options.hu_correction, progress=progress
    )
    progress.note(f"split: {exams.source}")
    known = with_names(known or {}, (patient.patient_id for patient in exams.patients))
    unseen = {name for part in ("val", "test") for name in known.get(part, ())}
    if shared := unseen & set(exams.split.train):
        raise SplitError(
            f"the model was not trained on {listed(sorted(shared), 4)}, so they must not be used to quantize it: "
            "leave out `split_json`"
        )
    return exams


def _part(exams: SplitExams, name: str, options: QuantizeOptions, progress: Progress) -> Opened:
    store = options.store or default_store()
    opened = exams.part(name, "train", store, assume_hu=options.assume_hu, progress=progress)
    for failure in opened.failures:
        progress.note(f"left out: {failure}")
    if not opened.series:
        raise MissingInputError(f"the {name} part has no usable series; `ctsr scan` says what is there")
    return opened


def _native(series: Sequence[StoredSeries], model: Model, most: int) -> list[Pair]:
    """Inputs of the middle slices of some series as they are, evenly along the list."""
    pairs: list[Pair] = []
    for number in spread_indices(len(series), most):
        stored = series[number]
        hu, conditional = stored.slice_hu(len(stored) // 2), model.architecture.conditional
        pairs += native_pairs(hu, stored.pixel_spacing, model.scale, model.hu_range, conditional=conditional)
    return pairs


def _accept(net: nn.Module, model: Model, val: Sequence[StoredSeries], cache: Path | None) -> Acceptance:
    """Compare the OpenVINO engines of the quantized and the original network on validation slices."""
    sampler = DegradationSampler(model.trained_for)
    slices = [(stored, index) for stored in val for index in range(len(stored))]
    pairs: list[Pair] = []
    for stored, index in slices[:: math.ceil(len(slices) / ACCEPTANCE_SLICES)]:
        pair = slice_pair(stored, index, sampler, model.hu_range)
        conditional = model.architecture.conditional
        lr = network_input(pair.lr, [pair.draw.params], scale=model.scale, conditional=conditional)
        pairs.append(Pair(lr, pair.hr))
    pairs += _native(val, model, ACCEPTANCE_SLICES)
    int8 = OpenvinoEngine(converted(net, cache), "int8")
    fp32 = OpenvinoEngine(converted(model.net, cache))
    return compare_engines(int8, fp32, pairs, model.hu_range)
