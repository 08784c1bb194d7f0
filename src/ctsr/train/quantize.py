"""A model's twin in 8-bit integers: ranges set on patches of its training part, then a short training with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch
from torch import nn

from ctsr.checkpoint import Generator
from ctsr.checkpoint.int8 import Int8Twin, TwinNotes
from ctsr.data.datasets import SplitExams, open_exams
from ctsr.data.hu_cache import Opened, StoredSeries, default_store
from ctsr.data.pairs import slice_pair
from ctsr.data.patches import EpochSampler, PatchDataset, PatchPair, Ticket
from ctsr.degrade import DegradationSampler
from ctsr.errors import MissingInputError, SplitError, UsageError
from ctsr.hashing import seed_from
from ctsr.infer.int8 import debias, set_ranges
from ctsr.infer.openvino_engine import GET_IT, OpenvinoEngine, converted, is_installed
from ctsr.infer.trial import Pair, Verdict, compare
from ctsr.losses import l1_loss
from ctsr.models.rounded import RoundedConv, rounded
from ctsr.paths import resolve_path
from ctsr.progress import SILENT, Progress
from ctsr.text import listed
from ctsr.train.options import check_patch
from ctsr.train.quantize_options import QuantizeOptions
from ctsr.train.schedule import rate_at

__all__ = ["Quantized", "finetune_rounded", "quantize"]

CALIBRATION_BATCHES = 12
"""Batches of patches that ranges are set on and the mean is taken from."""
TRIAL_SLICES = 8
"""At most so many validation slices, evenly spread, decide."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """What came of it."""

    twin: Int8Twin
    verdict: Verdict
    """On the validation part, as OpenVINO computes the twin and the model."""
    failures: tuple[str, ...]
    """A line for each series that could not be used."""


def quantize(
    generator: Generator, options: QuantizeOptions, *, cache: Path | None = None, progress: Progress = SILENT
) -> Quantized:
    """Make a model's twin in 8-bit integers, and compare the two on the validation part.

    Args:
        generator: the model; left as it is.
        options: which exams, and how long.
        cache: folder for the converted networks; the user's when None.
        progress: hears of the split and of how the work goes.

    Raises:
        MissingInputError: a root is not there, or a part has no usable series.
        SplitError: see `ctsr.data.split.choose_split`; or its training part holds patients who judged the model.
        UsageError: a patch does not fit the scale or the slices, or OpenVINO is not installed.
    """
    check_patch("patch_size", options.patch_size, generator.scale)
    if not is_installed():
        raise UsageError(f"ctsr quantize compares in OpenVINO, which is not installed: {GET_IT}")
    exams = _exams(generator, options, progress)
    train, val = (_part(exams, name, options, progress) for name in ("train", "val"))
    _check_fits(options.patch_size, generator.scale, train.series)
    patches = Patches(train.series, generator, options)
    net = rounded(generator.net)
    calibration = patches.batches("ranges", CALIBRATION_BATCHES)
    images = [batch.lr for batch in progress.track(calibration, total=CALIBRATION_BATCHES, what="Setting ranges")]
    set_ranges(net, images)
    steps = patches.batches("steps", options.steps)
    finetune_rounded(net, generator.net, progress.track(steps, total=options.steps, what="Training"), options)
    debias(net, generator.net, images)
    verdict = _verdict(net, generator, val.series, cache)
    patients = tuple(sorted({one.patient_id for one in train.series}))
    notes = TwinNotes(generator.sha256, patients, options.steps, verdict.loss_db, verdict.bias_hu, verdict.num_slices)
    return Quantized(Int8Twin(net, notes), verdict, (*exams.failures, *train.failures, *val.failures))


def finetune_rounded(
    net: nn.Module, teacher: nn.Module, batches: Iterator[PatchPair], options: QuantizeOptions
) -> None:
    """Train the weights of a rounded network, its ranges held, to say what fp32 says and what is true.

    The loss is L1 to the teacher's answer plus L1 to HR. Gradients pass through roundings as if they were not there.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=options.lr)
    held = [one for one in net.modules() if isinstance(one, RoundedConv)]
    for step, batch in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = rate_at("cosine", options.lr, epoch=step, epochs=options.steps)
        with torch.no_grad():
            wanted = teacher(batch.lr)
        answer = net(batch.lr)
        optimizer.zero_grad()
        torch.autograd.backward(l1_loss(answer, wanted) + l1_loss(answer, batch.hr))
        optimizer.step()
        for conv in held:
            conv.hold()


def _check_fits(size: int, scale: int, series: Sequence[StoredSeries]) -> None:
    """See that patches are not made of reflections alone: these would set ranges for images that there are none of."""
    longest = max(max(one.rows, one.columns) for one in series)
    if size > longest:
        raise UsageError(
            f"--patch_size {size} is larger than every slice to train on; {longest - longest % scale} fits"
        )


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of the training part."""

    series: tuple[StoredSeries, ...]
    generator: Generator
    options: QuantizeOptions

    def batches(self, use: str, number: int) -> Iterator[PatchPair]:
        """So many batches, the same on every run, others for every use."""
        seed = seed_from(self.options.seed, use)
        dataset = PatchDataset(
            self.series,
            patch_size=self.options.patch_size,
            degradation=self.generator.degradation,
            hu_range=self.generator.hu_range,
            seed=seed,
            augment=True,
        )
        tickets = _endless(EpochSampler(len(dataset), seed=seed))
        for _ in range(number):
            yield dataset.__getitems__(list(islice(tickets, self.options.batch_size)))


def _endless(sampler: EpochSampler) -> Iterator[Ticket]:
    """Epoch after epoch."""
    for sampler.epoch in count():
        yield from sampler


def _exams(generator: Generator, options: QuantizeOptions, progress: Progress) -> SplitExams:
    """The roots under the split that the model was trained with: what tested it must not set its ranges."""
    roots = [resolve_path(root, progress=progress) for root in options.data_root]
    named = None if options.split_json is None else resolve_path(options.split_json, progress=progress)
    known = generator.meta.split if generator.meta else None
    exams = open_exams(roots, split_json=named, checkpoint_split=known, progress=progress)
    progress.note(f"split: {exams.source}")
    unseen = {name for part in ("val", "test") for name in (known or {}).get(part, ())}
    if shared := unseen & set(exams.split.train):
        raise SplitError(
            f"the model was not trained on {listed(sorted(shared), 4)}, and neither may its twin be: "
            "leave out --split_json"
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


def _verdict(net: nn.Module, generator: Generator, val: Sequence[StoredSeries], cache: Path | None) -> Verdict:
    """How the engines compare that would run the two, on validation slices."""
    sampler = DegradationSampler(generator.degradation)
    slices = [(one, index) for one in val for index in range(len(one))]
    taken = slices[:: -(-len(slices) // TRIAL_SLICES)]
    pairs = [slice_pair(one, index, sampler, generator.hu_range) for one, index in taken]
    fast, exact = OpenvinoEngine(converted(net, cache), "int8"), OpenvinoEngine(converted(generator.net, cache))
    return compare(fast, exact, [Pair(pair.lr, pair.hr) for pair in pairs], generator.hu_range)
