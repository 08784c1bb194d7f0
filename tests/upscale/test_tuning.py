"""What upscale chooses for a series: measured first, recorded, never noisier than the source; and measured alike."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

import ctsr
from ctsr.checkpoint import Model, load_model
from ctsr.checkpoint.model_lookup import BUNDLED, bundled_for
from ctsr.cli.main import main
from ctsr.degrade import Degradation, DegradationParams
from ctsr.errors import MissingInputError, UsageError
from ctsr.evaluate.methods import ModelUnderTest, super_resolvers
from ctsr.exams import read_slice
from ctsr.infer import EngineRequest, by_network, telling
from ctsr.infer.conditions import MOST_NOISE, STRENGTHS, Strength, drawn_conditions, drawn_range
from ctsr.models.interpolation import enlarge
from ctsr.quality import BeforeAfter
from ctsr.quality.noise import NoiseEstimate
from ctsr.upscale import DEFAULT_MODEL, UpscaleOptions
from ctsr.upscale.run import upscale
from ctsr.upscale.tuning import Tuning, strength_of, unheard
from tests.made.ct import body, save_series
from tests.made.exams import only_series
from tests.made.listener import Listener
from tests.quality.images import blurred_discs

CONDITIONAL = "ctsr-x2"


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A series of two slices of a body with 20 HU of white noise."""
    folder = tmp_path / "exams" / "P1" / "s"
    rng = np.random.default_rng(0)
    noise = np.rint(rng.normal(0, 20, (2, 160, 160))).astype(np.int16)
    save_series(folder, list(np.maximum(body(160, radius=0.8, texture=0) + noise, -1000)))
    return folder


class Louder(nn.Module):
    """Interpolates, and doubles what differs from a smooth image: a network that takes noise for detail."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.inner = net

    def forward(self, x: Tensor) -> Tensor:
        smooth = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return enlarge(x + 2 * (x - smooth), 2, "bilinear")


def run(source: Path, out: Path, generator: Model, **options: object) -> dict[str, object]:
    settings = UpscaleOptions(**({"picture": False} | options))  # pyright: ignore[reportArgumentType]
    report = upscale(source, out, generator, EngineRequest("torch"), settings, progress=Listener())
    assert report.failed == 0
    return json.loads((out / "run.json").read_text())["tuning"]


def test_a_model_that_makes_noise_is_mixed_until_it_makes_none(noisy: Path, tmp_path: Path, bilinear: Model) -> None:
    loud = replace(bilinear, net=Louder(bilinear.net))
    free = run(noisy, tmp_path / "free", loud, limit_noise=False)
    kept = run(noisy, tmp_path / "kept", loud)
    assert free["network_share"] == 1
    assert free["before_after"]["noise_ratio"] > 1.2  # type: ignore[index]
    assert 0 < kept["network_share"] < 1  # type: ignore[operator]
    assert kept["before_after"]["noise_ratio"] <= 1.0  # type: ignore[index]


def test_physics_says_of_a_model_what_upscale_says(
    tmp_path: Path, bilinear: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The curve that it prints is that of a mixture with interpolation."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 10, (160, 160))
    save_series(tmp_path / "s", [np.maximum(blurred_discs(160, 1.5, rng) + noise, -1000).astype(np.int16)])
    loud = replace(bilinear, net=Louder(bilinear.net), meta=None)
    monkeypatch.setattr("ctsr.checkpoint.find_model", lambda *_, **__: loud)
    assert main(["physics", str(tmp_path), "--kind", "edge", "--model_path", "loud"]) == 0
    said = capsys.readouterr().err
    assert "warning: as `ctsr upscale` says: the model alone would be noisier than the source: " in said
    assert "warning: as `ctsr upscale` says: the model does not say what it was trained on" in said


def test_a_conditional_model_is_told_what_was_measured(noisy: Path, tmp_path: Path) -> None:
    generator = load_model(BUNDLED[CONDITIONAL].file)
    assert generator.architecture.conditional
    tuning = run(noisy, tmp_path / "out", generator)
    noise, told = tuning["noise"]["sigma_hu"], tuning["told"]  # type: ignore[index]
    assert noise == pytest.approx(20, rel=0.1)
    assert told["noise_hu"] == pytest.approx(MOST_NOISE * noise, rel=1e-6)  # type: ignore[index]
    assert told["anchor_px"] == STRENGTHS["standard"].anchor < STRENGTHS["strong"].anchor  # type: ignore[index]
    assert tuning["before_after"]["noise_ratio"] < 0.8  # type: ignore[index]


def test_more_is_told_the_stronger_it_is_to_be(noisy: Path, tmp_path: Path) -> None:
    generator = load_model(BUNDLED[CONDITIONAL].file)
    tunings = [run(noisy, tmp_path / name, generator, strength=name) for name in STRENGTHS]
    ratios = [tuning["before_after"]["noise_ratio"] for tuning in tunings]  # type: ignore[index]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] <= 1.0


@pytest.mark.parametrize("noise_hu", [5.0, 20.0])
def test_what_is_left_of_a_faint_disc_is_more_the_less_is_denoised(noise_hu: float) -> None:
    """3 mm across, 15 HU beside its surroundings: told nothing but noise a network takes half of it for noise."""
    model = load_model(BUNDLED[CONDITIONAL].file)
    rng = np.random.default_rng(1)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, (128, 128)), 0.6)
    noise *= noise_hu / noise.std()
    rows, columns = np.mgrid[:128, :128] % 32 - 15.5
    distance = np.hypot(rows, columns)
    disc = 15 * np.clip(2.5 - distance, 0, 1)
    inside = (distance < 2).repeat(2, axis=0).repeat(2, axis=1)

    def left(denoise: float) -> float:
        told = Strength(denoise, 0.25).conditions(noise_hu, 2, model.hu_range)
        resolve = by_network(model.net, 2, model.hu_range)
        finer = [telling(resolve, told)((40 + noise + added).astype(np.float32)) for added in (disc, 0 * disc)]
        return float((finer[0] - finer[1])[inside].mean() / disc[distance < 2].mean())

    shares = [left(denoise) for denoise in (1.0, 0.7, STRENGTHS["standard"].denoise, 0.2)]
    assert shares == sorted(shares)
    assert shares[2] > 0.65 > 0.6 > shares[0]


def test_a_bound_that_is_not_kept_says_what_to_do_where_the_model_can_be_told() -> None:
    noise = NoiseEstimate(20.0, None, 9)
    found = BeforeAfter(20.0, 0.9, 0.0, 0.0, 9.0, {}, slices=1)
    told = Tuning(STRENGTHS["standard"], None, 1.0, noise, found, found)
    noisier, disagreeing = told.warnings()
    assert noisier.endswith("; a larger `denoise` leaves less")
    assert "`consistent`" in disagreeing
    assert not any("denoise" in line for line in replace(told, strength=None).warnings())
    noisier, _ = replace(told, consistent=True).warnings()
    assert noisier.endswith("; `consistent` gives the source's noise back")


def test_noise_that_cannot_be_measured_is_said_where_it_was_to_go(tmp_path: Path) -> None:
    """Of lung alone, or of a body too small for a window, the model was told no noise without a word."""
    save_series(tmp_path / "s", [np.full((64, 64), -850 + index, np.int16) for index in range(2)])
    model, told = (
        load_model(BUNDLED[CONDITIONAL].file),
        "its noise cannot be measured (fewer than 8 windows of soft tissue",
    )
    for strength, is_said in (("standard", True), ("faithful", False)):
        run(tmp_path / "s", tmp_path / strength, model, strength=strength, assume_hu=True)
        warnings = json.loads((tmp_path / strength / "run.json").read_text())["warnings"]
        assert any(line.startswith(told) for line in warnings) == is_said


def test_denoise_and_sharpen_take_the_place_of_the_strengths() -> None:
    assert strength_of(UpscaleOptions(strength="strong", denoise=0.1)) == Strength(0.1, STRENGTHS["strong"].sharpen)
    assert strength_of(UpscaleOptions(sharpen=0.0)) == Strength(STRENGTHS["standard"].denoise, 0.0)
    with pytest.raises(UsageError, match="`denoise` must lie between 0 and 1"):
        UpscaleOptions(denoise=1.5)


@pytest.mark.parametrize("strength", ["faithful", "standard", "strong"])
def test_a_consistent_result_is_still_the_network_s(noisy: Path, tmp_path: Path, strength: str) -> None:
    """Projected, interpolation is noisier than its source as well: nothing was left of the network at any strength."""
    model = load_model(BUNDLED[CONDITIONAL].file)
    share = run(noisy, tmp_path / "out", model, consistent=True, strength=strength)["network_share"]
    assert cast("float", share) > 0.3


def test_a_loud_network_is_limited_where_it_is_consistent_too(noisy: Path, tmp_path: Path, bilinear: Model) -> None:
    loud = replace(bilinear, net=Louder(bilinear.net))
    interpolated = run(noisy, tmp_path / "plain", bilinear, consistent=True)["before_after"]
    tuned = run(noisy, tmp_path / "out", loud, consistent=True)
    ratios = [cast("dict[str, float]", found)["noise_ratio"] for found in (interpolated, tuned["before_after"])]
    assert 1 < ratios[0] <= ratios[1] * 1.001 <= 1.022 * ratios[0]
    assert cast("float", tuned["network_share"]) < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"strength": "strong"}, ["`strength`: no effect with a model that is not told blur and noise"]),
        ({"denoise": 0.4, "sharpen": 0.0}, ["`denoise`, `sharpen`: no effect with a model that is not told"]),
    ],
)
def test_what_a_network_cannot_be_told_is_said(
    noisy: Path, tmp_path: Path, bilinear: Model, options: dict[str, object], words: list[str]
) -> None:
    run(noisy, tmp_path / "out", bilinear, **options)
    said = json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]
    found = [warning for warning in said if "no effect" in warning]
    assert [warning.startswith(word) for warning, word in zip(found, words, strict=True)] == [True] * len(words)


def test_between_slices_only_denoise_is_heard() -> None:
    strong = UpscaleOptions(slice_spacing=1.0, strength="strong", denoise=0.5)
    assert unheard(strong, conditional=None) == ["`strength`: no effect without a model in plane"]
    assert unheard(strong, conditional=True) == []
    kept = UpscaleOptions(slice_spacing=1.0, consistent=True, limit_noise=False)
    assert unheard(kept, conditional=None) == ["`limit_noise`, `consistent`: no effect without a model in plane"]
    assert unheard(kept, conditional=True) == unheard(kept, conditional=False) == []


@pytest.mark.parametrize("conditional", [True, False])
def test_what_is_measured_is_what_is_delivered(noisy: Path, tmp_path: Path, bilinear: Model, conditional: bool) -> None:
    """One LR slice through `upscale` and through the evaluation: the same HU."""
    generator = load_model(BUNDLED[CONDITIONAL].file) if conditional else bilinear
    # Evaluations that know what LR was made with keep as much of the source as full denoising does.
    tuning = run(noisy, tmp_path / "out", generator, denoise=1.0, sharpen=0.5, limit_noise=False)
    told = tuning["told"] or {"blur_sigma_px": 0.0, "noise_hu": 0.0}
    blur = told["blur_sigma_px"]  # type: ignore[index]
    params = DegradationParams(blur, 5 if blur else 1, told["noise_hu"] / 1500, 1.0)  # type: ignore[index]
    before, after = only_series(noisy), only_series(tmp_path / "out")
    lr = torch.from_numpy(generator.hu_range.to_unit(read_slice(before, 1).hu))[None, None]
    sr = ModelUnderTest(generator, torch.device("cpu")).super_resolve(lr, params)
    evaluated = generator.hu_range.to_hu(sr[0, 0].numpy())
    delivered = np.clip(read_slice(after, 1).hu, generator.hu_range.low, generator.hu_range.high)
    assert np.abs(evaluated - delivered).max() <= 0.51  # delivered HU are whole numbers


def test_an_evaluation_can_be_told_what_the_default_tells(noisy: Path, tmp_path: Path) -> None:
    """`evaluate --conditions standard` super-resolves as `upscale` does."""
    generator = load_model(BUNDLED[CONDITIONAL].file)
    next(noisy.iterdir()).unlink()  # noise is measured in all slices here, in each there
    run(noisy, tmp_path / "out", generator)
    before, after = only_series(noisy), only_series(tmp_path / "out")
    model = ModelUnderTest(generator, torch.device("cpu"))
    (evaluated,) = super_resolvers([model], [], measured_mm=before.pixel_spacing[0], kind="standard")
    delivered = np.clip(read_slice(after, 0).hu, generator.hu_range.low, generator.hu_range.high)
    assert np.abs(evaluated(read_slice(before, 0).hu) - delivered).max() <= 0.51


def test_the_model_that_comes_with_ctsr_is_the_default_whatever_was_trained_here() -> None:
    bundled = bundled_for(2)
    assert bundled is not None
    assert bundled.name == DEFAULT_MODEL


def test_a_model_that_is_gone_says_what_takes_its_place() -> None:
    from ctsr.checkpoint import resolve_model

    with pytest.raises(MissingInputError, match="`strength` strong"):
        resolve_model("ctsr-x2-sharp")


def test_a_range_holds_what_a_degradation_draws_and_no_more() -> None:
    kind = Degradation(
        blur_sigma_range=(0.0, 1.3), noise_sigma_range=(0.01, 0.02), dose_factor_range=(0.25, 1.0), scale=4,
        downsampling=("bilinear", "area"),
    )  # fmt: skip
    blur, noise = drawn_range(kind)
    assert blur == (0.0, pytest.approx((1.3**2 + 1) ** 0.5))
    assert noise == (pytest.approx(0.01), pytest.approx(0.04))
    drawn = [drawn_conditions(kind.sample(np.random.default_rng(seed)), 4) for seed in range(200)]
    assert all(blur[0] <= each.blur_sigma <= blur[1] for each in drawn)
    assert all(noise[0] <= each.noise_sigma <= noise[1] for each in drawn)
    assert drawn_range(replace(kind, noise_model=("projection",))).noise == (0, pytest.approx(0.02 * 3**0.5))
    assert drawn_range(replace(kind, noise_model=("white", "exam"))).noise == (0, np.inf)
    for silent in ("clean", "blur"):
        assert drawn_range(replace(kind, mode=silent)).noise == (0, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("sigma", "said"), [(20, ""), (70, "the model is told noise of ")])
def test_noise_that_a_model_was_not_trained_on_is_said(tmp_path: Path, sigma: float, said: str) -> None:
    """`ctsr-x2` has seen noise of up to 67 HU, and is told 1.5 times what is measured."""
    noise = np.rint(np.random.default_rng(0).normal(0, sigma, (2, 96, 96))).astype(np.int16)
    images = np.maximum(body(96, radius=0.8, texture=0) + noise, -1000).astype(np.int16)
    save_series(tmp_path / "exams" / "P1" / "s", list(images))
    run(tmp_path / "exams", tmp_path / "out", load_model(BUNDLED[CONDITIONAL].file))
    said_of_it = json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]
    found = [line for line in said_of_it if "the model is told" in line]
    listener = Listener()
    ctsr.upscale(images[0].astype(np.float32), spacing=(0.7, 0.7), engine="torch", progress=listener)
    assert [note for note in listener.notes if "the model is told" in note] == [f"warning: {line}" for line in found]
    assert len(found) == bool(said)
    assert all(line.startswith(said) and "trained on 0 … 67.5:" in line for line in found)
