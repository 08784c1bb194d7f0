"""A quantized model: a file beside the model it was made from, and how its network is opened and checked."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from ctsr.checkpoint.checkpoint_io import PACKED, check_weights, read_tensors
from ctsr.checkpoint.model import Model
from ctsr.documents import as_type, parse_json
from ctsr.errors import CheckpointError, DomainError, ReadError, UsageError
from ctsr.exams import read_slice
from ctsr.files import atomic_path
from ctsr.hashing import pseudonym
from ctsr.infer.engine import Engine, OpenvinoEngine, converted, weights_hash
from ctsr.models.architecture import StateDict
from ctsr.quantization.acceptance import Acceptance, Pair, compare_engines, degraded_pairs, native_pairs
from ctsr.quantization.calibration import Calibration, build_quantized, convert_calibrated
from ctsr.series import Series

HEADER_KEY = "ctsr_int8"
FORMAT = 1
FORMER_NAMES = ((".entry.", ".input_quantizer."),)
"""Parts of keys in files of earlier versions, and what they are called now."""
CHECK_POSITIONS = (0.2, 0.5, 0.8)
"""Positions of the slices that an engine is checked on, as fractions of a series' length."""


@dataclass(frozen=True)
class QuantizationRecord:
    """The header of a quantized model's file."""

    model_sha256: str
    """Of the file of the original model; the quantized model is used for no other."""
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
            raise DomainError(f"it was made from another model than {model.path.name}")
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
            xml = convert_calibrated(model.net.cpu(), self.calibration, cache)
            # Other images give another network, whose results must not be mistaken for this one's.
            variant = f"calibrated {self.calibration.key[:8]}"
        else:
            raise UsageError("int8 needs calibration images for a model that is not quantized; or choose fp32")
        return OpenvinoEngine(xml, "int8", threads=threads, variant=variant)

    def check_on_series(
        self, model: Model, series: Iterable[Series], *, assume_hu: bool = False
    ) -> Callable[[Engine, Engine], Acceptance]:
        """A check of an INT8 engine against fp32 on the first readable series not used for calibration or training.

        If every series belongs to patients that the quantized model was trained on, the check returns the comparison
        stored with the model.

        Raises:
            UsageError: by the check, if it has neither a series nor a stored result.
        """

        def check(int8: Engine, fp32: Engine) -> Acceptance:
            quantized = load_quantized(model)
            excluded = frozenset(map(pseudonym, quantized.record.patients if quantized else ()))
            pairs = self._pairs(model, series, excluded, assume_hu)
            if pairs:
                return compare_engines(int8, fp32, pairs, model.hu_range)
            if quantized is not None:
                return quantized.record.acceptance
            raise UsageError(
                "int8 must be checked on a patient that was not used for calibration; calibrate on other exams"
            )

        return check

    def _pairs(
        self, model: Model, series: Iterable[Series], excluded_patients: frozenset[str], assume_hu: bool
    ) -> Sequence[Pair]:
        excluded_series = self.calibration.series_uids if self.calibration else frozenset[str]()
        for candidate in series:
            if candidate.series_uid in excluded_series or pseudonym(candidate.patient_id) in excluded_patients:
                continue
            last = len(candidate.slices) - 1
            indices = sorted({round(position * last) for position in CHECK_POSITIONS})
            with suppress(ReadError):  # reported when this series is processed; the next one serves as well
                slices = [read_slice(candidate, index, assume_hu=assume_hu).hu for index in indices]
                conditional, spacing = model.architecture.conditional, candidate.pixel_spacing
                pairs = degraded_pairs(slices, model.trained_for, model.hu_range, conditional=conditional)
                for hu in slices:
                    pairs += native_pairs(hu, spacing, model.scale, model.hu_range, conditional=conditional)
                return pairs
        return []
