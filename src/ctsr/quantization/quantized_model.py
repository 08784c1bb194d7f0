"""A quantized model: made by quantization-aware training, stored beside its original, opened and checked."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ctsr.checkpoint import Model
from ctsr.checkpoint.files import PACKED, check_weights, read_tensors
from ctsr.data.datasets import SplitExams, open_exams
from ctsr.data.hu_cache import Opened, StoredSeries, default_store
from ctsr.data.pairs import EpochSampler, PatchDataset, PatchPair, Ticket, check_patch_fits, slice_pair
from ctsr.degrade import DegradationSampler
from ctsr.documents import as_type, parse_json
from ctsr.errors import CheckpointError, DomainError, MissingInputError, ReadError, SplitError, UsageError
from ctsr.files import atomic_path
from ctsr.hashing import is_same_person, pseudonym, seed_from, with_names
from ctsr.infer.conditions import network_input
from ctsr.infer.engine import GET_IT, Engine, OpenvinoEngine, converted, is_installed, weights_hash
from ctsr.losses import l1_loss
from ctsr.models import StateDict
from ctsr.models.conditioning import is_conditional
from ctsr.paths import resolve_path
from ctsr.quantization import QuantizeOptions
from ctsr.quantization.acceptance import Acceptance, Pair, compare_engines, native_pairs, series_pairs
from ctsr.quantization.calibration import (
    Calibration,
    QuantizedConv2d,
    build_quantized,
    calibrate_ranges,
    convert_calibrated,
    correct_bias,
    fake_quantized,
)
from ctsr.reporting import SILENT, Progress, listed
from ctsr.series import Series
from ctsr.series_quality import spread_indices

HEADER_KEY = "ctsr_int8"
FORMAT = 1
FORMER_NAMES = ((".entry.", ".input_quantizer."),)
"""Parts of keys in files of earlier versions, and what they are called now."""


@dataclass(frozen=True)
class QuantizationRecord:
    """The header of a quantized model's file."""

    model_sha256: str
    """SHA-256 of the original model's file; the quantized model is used for no other."""
    patients: tuple[str, ...]
    """Patients used for calibration and training, as `ctsr.hashing.pseudonym` hashes them; files of earlier versions
    hold names."""
    steps: int
    """Training steps after calibration."""
    loss_db: float
    """PSNR lost to fp32 on slices of other patients than `patients`."""
    bias_hu: float
    """Shift of the mean relative to fp32, on the same slices."""
    num_slices: int
    """Number of these slices."""
    tissue_bias_hu: Mapping[str, float] = field(default_factory=dict[str, float])
    """The same shift inside each tissue; empty in files of earlier versions."""
    most_apart_hu: float = 0.0
    """Largest difference of any pixel."""
    identities: tuple[str, ...] = ()
    """Hashes of the studies and patients used, see `ctsr.hashing`, whatever their folders are called; empty in files of
    earlier versions."""

    @property
    def acceptance(self) -> Acceptance:
        """The comparison with fp32 when the model was quantized."""
        return Acceptance(self.loss_db, self.bias_hu, self.num_slices, self.tissue_bias_hu, self.most_apart_hu)


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """A quantized network and the record of how it was made."""

    net: nn.Module
    """With fake quantization (`ctsr.quantization.calibration`), on the CPU, in evaluation mode."""
    record: QuantizationRecord


def quantized_path(model: Path) -> Path:
    """The file of a model's quantized version: `best.pth` → `best.int8.safetensors`."""
    return model.with_name(f"{model.stem}.int8{PACKED}")


def save_quantized(path: Path, model: QuantizedModel) -> None:
    """Write a quantized model atomically; an existing file is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    header = {"format": "pt", HEADER_KEY: json.dumps({"format": FORMAT, **asdict(model.record)})}
    state = {name: value.detach().cpu().contiguous() for name, value in model.net.state_dict().items()}
    with atomic_path(path) as part:
        save_file(state, part, metadata=header)


def load_quantized(model: Model) -> QuantizedModel | None:
    """Load the quantized version beside a model; None if there is none.

    Raises:
        CheckpointError: the file is damaged or belongs to another model.
    """
    path = quantized_path(model.path)
    if not path.is_file():
        return None
    state, header = read_tensors(path)
    try:
        record = _record(as_type(parse_json(header[HEADER_KEY]), dict[str, object]))
        check_weights(state)
        if record.model_sha256 != model.sha256:
            raise DomainError(f"it was made from a model other than {model.path.name}")
        return QuantizedModel(build_quantized(model.architecture, _renamed(state)), record)
    except (KeyError, TypeError, ValueError, DomainError, ReadError, CheckpointError) as error:
        raise CheckpointError(
            f"{path} cannot be used ({error}); make it again with `ctsr quantize --overwrite`, or remove it"
        ) from error


def _renamed(state: StateDict) -> StateDict:
    renamed = dict(state)
    for former, current in FORMER_NAMES:
        renamed = {key.replace(former, current): value for key, value in renamed.items()}
    return renamed


def _record(plain: dict[str, object]) -> QuantizationRecord:
    if plain.pop("format", None) != FORMAT:
        raise DomainError("it was written by another version")
    return as_type(plain, QuantizationRecord, "its record")


@dataclass(frozen=True)
class Int8Network:
    """Opens and checks the INT8 network of a model; picklable.

    A quantized model beside the file is used if there is one. Otherwise the model's own weights are quantized and
    calibrated, without training.
    """

    calibration: Calibration | None = None
    """Images for calibration, needed only for models without a quantized version."""

    def source(self, model: Model) -> str:
        """Where the network comes from, for messages.

        Raises:
            CheckpointError: the file beside the model cannot be used.
            UsageError: there is neither a quantized model nor a calibration.
        """
        if load_quantized(model) is not None:
            return f"quantized model {quantized_path(model.path)}"
        if self.calibration is None:
            raise UsageError("int8 needs calibration images for a model that is not quantized; or choose fp32")
        return "calibrated without training"

    def open(self, model: Model, *, threads: int | None = None, cache: Path | None = None) -> Engine:
        """The INT8 engine of a model.

        Raises:
            CheckpointError: the file beside the model cannot be used.
            UsageError: there is neither a quantized model nor a calibration.
        """
        quantized = load_quantized(model)
        if quantized is not None:
            xml = converted(quantized.net, cache)
            variant = f"quantized {weights_hash(quantized.net)[:8]}"
        elif self.calibration is not None:
            key = self.calibration.key(model)
            xml = convert_calibrated(model.net.cpu(), key, partial(self.calibration.images, model), cache)
            # Other images give another network, whose results must not be mistaken for this one's.
            variant = f"calibrated {key[:8]}"
        else:
            raise UsageError("int8 needs calibration images for a model that is not quantized; or choose fp32")
        return OpenvinoEngine(xml, "int8", threads=threads, variant=variant)

    def check_on_series(
        self, model: Model, series: Iterable[Series], *, assume_hu: bool = False
    ) -> Callable[[Engine, Engine], Acceptance]:
        """A check of an INT8 engine against fp32 on the first readable series of somebody who was not calibrated on.

        If every series belongs to patients that the quantized model was trained on, the check returns the comparison
        stored with the model.

        Raises:
            UsageError: by the check, if it has neither a series nor a stored result.
        """

        def check(int8: Engine, fp32: Engine) -> Acceptance:
            quantized = load_quantized(model)
            names = frozenset(map(pseudonym, quantized.record.patients if quantized else ()))
            used = {*(quantized.record.identities if quantized else ())}
            used |= self.calibration.identities if self.calibration else set()
            unseen = (s for s in series if not is_same_person(used, s.identities))
            usable = (s for s in unseen if pseudonym(s.patient_id) not in names)
            pairs = series_pairs(model, usable, assume_hu=assume_hu)
            if pairs:
                return compare_engines(int8, fp32, pairs, model.hu_range)
            if quantized is not None:
                return quantized.record.acceptance
            raise UsageError(
                "int8 must be checked on a series that can be read, is large enough and was not used for calibration; "
                "calibrate on other exams, or choose fp32"
            )

        return check


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
    check_patch_fits("patch_size", options.patch_size, model.scale, train.series, progress=progress)
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
        identities=exams.identities("train"),
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
