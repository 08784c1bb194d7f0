"""INT8: used where it is as good as fp32 on patients it was not calibrated on, else given up, and said so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from ctsr.checkpoint import Model, find_model, load_model
from ctsr.degrade import Degradation
from ctsr.errors import UsageError
from ctsr.hu import DEFAULT_RANGE, HUCorrection
from ctsr.infer import Engine, EngineRequest, TorchEngine, choose_engine, open_engine
from ctsr.infer.engine import OpenvinoEngine, openvino_core
from ctsr.models import Architecture, build
from ctsr.models.networks import RRDBNet
from ctsr.quantization.acceptance import (
    BETWEEN,
    Acceptance,
    Pair,
    SyntheticSlices,
    between_pairs,
    check_on_series,
    compare_engines,
    degraded_pairs,
    native_pairs,
    series_pairs,
)
from ctsr.quantization.calibration import ExamSlices, convert_calibrated
from ctsr.quantization.quantized_model import Int8Network
from tests.made.ct import body
from tests.made.exams import save_patients
from tests.made.listener import Listener
from tests.made.model import save_model, save_slice_model
from tests.needs import needs
from tests.quality.images import ct_noise, torso


@pytest.fixture(autouse=True)
def _fast() -> None:
    needs(find_spec("openvino") is not None, "install ctsr[fast] to run this")


@dataclass(frozen=True)
class Discs:
    """Bodies of known HU, all of it made `gain` times smaller about the middle of the range."""

    gain: float = 1.0

    def key(self, _model: Model | None = None, /) -> str:
        return f"{self.gain:08.4f} discs"

    @property
    def identities(self) -> frozenset[str]:
        return frozenset()

    def images(self, _model: Model | None = None, /) -> Sequence[npt.NDArray[np.float32]]:
        return [(self.gain * pair.lr).numpy() for pair in sample_pairs(seed=50)]


def sample_pairs(seed: int = 0) -> list[Pair]:
    slices = [body(64, seed=seed + i, texture=200, smooth=1.0).astype(np.float32) for i in range(3)]
    return degraded_pairs(slices, Degradation(), DEFAULT_RANGE)


def check(int8: Engine, fp32: Engine) -> Acceptance:
    return compare_engines(int8, fp32, sample_pairs(), DEFAULT_RANGE)


def choose(net: nn.Module, path: Path, calibration: Discs) -> tuple[str, str]:
    """The engine that is used, and what was said of it."""
    generator: Model = replace(load_model(save_model(path / "best.pth")), net=net)
    asked = EngineRequest("openvino", "int8", int8=Int8Network(calibration), cache=path / "cache")
    listener = Listener()
    spec = choose_engine(generator, asked, check, listener)
    return open_engine(spec, generator).name, listener.notes[-1]


def test_int8_that_is_as_good_is_used(bilinear_net: nn.Module, tmp_path: Path) -> None:
    name, note = choose(bilinear_net, tmp_path, Discs())
    assert name == f"openvino int8 calibrated {Discs().key()[:8]}"
    assert "in use" in note


def test_other_calibrations_make_engines_of_other_names(bilinear_net: nn.Module, tmp_path: Path) -> None:
    names = {choose(bilinear_net, tmp_path / str(gain), Discs(gain))[0] for gain in (1.0, 0.9)}
    assert len(names) == 2


def test_int8_that_is_worse_gives_way_to_fp32_and_says_so(busy_net: nn.Module, tmp_path: Path) -> None:
    # Its trunk has a say of hundreds of HU. Calibrated without contrast, it has no numbers for what a body asks of it.
    assert isinstance(busy_net, RRDBNet)
    busy_net.conv_last.weight.data *= 5
    for weights in busy_net.RRDB_trunk.parameters():
        weights.data *= 2
    name, note = choose(busy_net, tmp_path, Discs(gain=0.01))
    assert name == "openvino fp32"
    assert "too much, computing in fp32" in note


def in_fp32(net: nn.Module, folder: Path) -> tuple[list[str], int]:
    """The convolutions that were not quantised, and how many there are."""
    model = openvino_core().read_model(convert_calibrated(net, Discs().key(), Discs().images, folder))
    convolutions = [one for one in model.get_ordered_ops() if one.get_type_name() == "Convolution"]
    weights = {one.get_friendly_name(): one.input_value(1).get_node() for one in convolutions}
    # Weights of 8 bits are widened and scaled where they are used.
    return [name for name, source in weights.items() if source.get_type_name() == "Constant"], len(convolutions)


def test_only_the_blocks_of_the_trunk_are_convert_calibrated(busy_net: nn.Module, tmp_path: Path) -> None:
    outer, count = in_fp32(busy_net, tmp_path)
    assert (len(outer), count) == (4, 34)
    assert not any(".rdb" in name for name in outer)


@pytest.mark.parametrize(("name", "count"), [("edsr", 7), ("rrdb_skip", 33), ("plain", 4)])
def test_of_a_network_with_a_skip_the_trunk_is_convert_calibrated(tmp_path: Path, name: str, count: int) -> None:
    torch.manual_seed(0)
    outer, found = in_fp32(build(Architecture(name, 2, nf=8, nb=2, gc=4)).eval(), tmp_path)
    assert found == count
    assert ["conv_first" in outer[0], "conv_up" in outer[1]] == [True, True]
    assert len(outer) == 2


def test_the_mean_of_int8_is_that_of_fp32(busy_net: nn.Module, tmp_path: Path) -> None:
    fast = OpenvinoEngine(convert_calibrated(busy_net, Discs().key(), Discs().images, tmp_path), "int8")
    verdict = compare_engines(fast, TorchEngine(busy_net), sample_pairs(), DEFAULT_RANGE)
    assert abs(verdict.bias_hu) < 0.5
    assert verdict.num_slices == 3


def test_a_verdict_measures_loss_and_shift() -> None:
    class Shifted:
        name = "shifted"

        def __init__(self, by: float) -> None:
            self.by = by

        def __call__(self, lr: Tensor) -> Tensor:
            return nn.functional.interpolate(lr, scale_factor=2.0) + self.by

    pairs = [Pair(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 16, 16), 0.01))]
    verdict = compare_engines(Shifted(0.02 - 0.01), Shifted(0.0), pairs, DEFAULT_RANGE)
    assert verdict.bias_hu == pytest.approx(15, abs=1e-3)
    assert verdict.loss_db < 0
    worse = compare_engines(Shifted(-0.01), Shifted(0.0), pairs, DEFAULT_RANGE)
    assert worse.loss_db == pytest.approx(20 * np.log10(2), abs=1e-3)
    assert not worse.passes


class Changed:
    """Enlarges, and changes the result."""

    name = "changed"

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change = change

    def __call__(self, lr: Tensor) -> Tensor:
        return self.change(nn.functional.interpolate(lr[:, :1], scale_factor=2.0))


def in_lung(hu: float) -> Callable[[Tensor], Tensor]:
    return lambda sr: sr + hu / 1500 * ((sr > -0.96) & (sr < -0.8))


def at_one_pixel(hu: float) -> Callable[[Tensor], Tensor]:
    def change(sr: Tensor) -> Tensor:
        sr = sr.clone()
        sr[..., 200, 200] += hu / 1500
        return sr

    return change


@pytest.mark.parametrize(
    ("change", "passes", "said"),
    [
        (in_lung(0.3), True, "lung +0.30"),
        (in_lung(1.0), False, "lung +0.99"),  # over all pixels, less than the 0.5 HU that the mean may move
        (at_one_pixel(90), True, "at most 90 HU"),
        (at_one_pixel(466), False, "at most 466 HU"),
    ],
)
def test_a_slice_as_it_is_shows_a_shift_in_one_tissue_and_a_pixel_far_off(
    change: Callable[[Tensor], Tensor], passes: bool, said: str
) -> None:
    pairs = native_pairs(torso(), (0.8, 0.8), 2, DEFAULT_RANGE)
    verdict = compare_engines(Changed(change), Changed(lambda sr: sr), pairs, DEFAULT_RANGE)
    assert verdict.passes == passes
    assert said in verdict.text
    assert abs(verdict.bias_hu) < 0.5
    assert {"air", "lung", "fat", "soft", "bone"} <= set(verdict.tissue_bias_hu)


def test_a_conditional_network_is_calibrated_and_checked_on_what_each_strength_tells(tmp_path: Path) -> None:
    noisy = torso() + ct_noise((256, 256), 20.0, np.random.default_rng(0), 0.4, 0.8)
    pairs = native_pairs(noisy, (0.8, 0.8), 2, DEFAULT_RANGE, conditional=True)
    told = [(float(pair.lr[0, 1, 0, 0]), float(pair.lr[0, 2, 0, 0]) * 1500) for pair in pairs]
    assert [blur for blur, _ in told] == pytest.approx([0, 0.275, 0.88])
    assert [noise for _, noise in told] == pytest.approx([0, 30, 30], rel=0.06)
    root = save_patients(tmp_path, ("anna",), slices=1, size=40)
    model = find_model("ctsr-x2")
    images = ExamSlices.below(root).images(model)
    assert [image.shape for image in images] == [(1, 3, 20, 20)] + [(1, 3, 40, 40)] * 3
    assert [float(image[0, 1].max()) for image in images[1:]] == pytest.approx([0, 0.275, 0.88])


def test_a_calibration_on_exams_is_known_by_its_files(tmp_path: Path) -> None:
    root = save_patients(tmp_path / "exams", ("anna", "bert"), slices=5, size=40)
    generator = load_model(save_model(tmp_path / "model" / "best.pth"))
    one = ExamSlices.below(root)
    # Two degraded slices of each series, and one of each as it is.
    assert [image.shape for image in one.images(generator)] == [(1, 1, 20, 20)] * 4 + [(1, 1, 40, 40)] * 2
    assert one.key(generator) == ExamSlices.below(root).key(generator)
    assert one.key(generator) != ExamSlices.below(root / "anna").key(generator)
    # Values that the user corrects are corrected here, too, and a network of others is not taken for one of these.
    corrected = ExamSlices.below(root, correction=HUCorrection(offset=-40))
    assert corrected.key(generator) != one.key(generator)
    native, before = corrected.images(generator)[-1], one.images(generator)[-1]
    inside = (before > -0.9) & (before < 0.9)
    assert (native - before)[inside] == pytest.approx(-40 / 1500, abs=1e-5)
    assert one.identities == {identity for series in one.series for identity in series.identities} != set()


def test_a_slice_that_cannot_be_read_costs_the_calibration_nothing_else(tmp_path: Path) -> None:
    """Of what is left of it, and of other states of any slice that is used, another network is made."""
    root = save_patients(tmp_path / "exams", ("anna", "bert"), slices=5, size=40)
    generator = load_model(save_model(tmp_path / "model" / "best.pth"))
    whole = ExamSlices.below(root)
    (middle,) = {series.slices[2].path for series in whole.series if series.patient_id == "anna"}
    before = whole.key(generator)
    middle.write_bytes(middle.read_bytes()[:-500])
    assert whole.key(generator) != before
    assert [image.shape for image in whole.images(generator)] == [(1, 1, 20, 20)] * 4 + [(1, 1, 40, 40)]


def test_the_synthetic_calibration_is_the_same_on_every_run(tmp_path: Path) -> None:
    model = load_model(save_model(tmp_path / "best.pth"))
    one, other = SyntheticSlices(), SyntheticSlices()
    assert one.key(model) == other.key(model)
    images = one.images(model)
    assert len(images) >= 6
    assert max(float(image.max()) for image in images) == 1  # an implant among them


def test_a_model_between_slices_is_calibrated_and_checked_on_slices_made_thick(tmp_path: Path) -> None:
    model = load_model(save_slice_model(tmp_path / "z.pth"))
    axial = torso()
    pairs = between_pairs([axial, axial[:15], axial[:, :1]], model.hu_range)
    assert len(pairs) == len(BETWEEN)  # the other two are too small for three thick slices
    for (thickness, distance), pair in zip(BETWEEN, pairs, strict=True):
        assert pair.hr is not None
        assert pair.lr.shape == (1, 5, *pair.hr.shape[2:])
        assert [float(pair.lr[0, channel, 0, 0]) for channel in (1, 2, 3)] == [thickness, distance, 0]
        rows = pair.lr[0, 4, :, 0]
        assert float(rows.abs().max()) <= distance / 2  # to the nearest of the thick slices
        where = int(rows.abs()[8:].argmin()) + 8
        assert rows[where] == 0
        # On a thick slice interpolation is that slice: the mean over as many rows of the truth.
        mean = pair.hr[0, 0, where - int(thickness) // 2 : where + int(thickness) // 2 + 1].mean(dim=0)
        assert float((pair.lr[0, 0, where] - mean).abs().max()) * model.hu_range.hu_per_unit < 0.01
        assert float((pair.lr[0, 0] - pair.hr[0, 0]).abs().max()) * model.hu_range.hu_per_unit > 50
    images = SyntheticSlices().images(model)
    assert {image.shape[1] for image in images} == {5}
    assert "between slices" in SyntheticSlices().key(model)


def test_a_series_that_is_too_small_to_be_made_thick_leaves_the_check_to_the_next(tmp_path: Path) -> None:
    model = load_model(save_slice_model(tmp_path / "z.pth"))
    save_patients(tmp_path / "exams", ("small",), slices=3, size=12)
    save_patients(tmp_path / "exams", ("large",), slices=3, size=40)
    small, large = (ExamSlices.below(tmp_path / "exams" / name).series for name in ("small", "large"))
    assert series_pairs(model, small) == []
    assert len(series_pairs(model, [*small, *large])) == 3 * len(BETWEEN)
    asked = EngineRequest("openvino", "bf16")
    check = check_on_series(model, asked, small)
    assert check is not None
    with pytest.raises(UsageError, match="large enough to check the precision on"):
        check(TorchEngine(model.net), TorchEngine(model.net))
