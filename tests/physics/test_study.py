"""Phantoms through degradation and method."""

import dataclasses
import json
import math
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from ctsr.degrade import Degradation
from ctsr.errors import DomainError
from ctsr.hu import DEFAULT_RANGE, PRESETS, FloatArray, HURange
from ctsr.infer import SuperResolver, by_interpolation, by_network
from ctsr.models import Architecture, build
from ctsr.physics import (
    NoiseSlice,
    PhysicsSettings,
    PhysicsStudy,
    TransferAt,
    conditions,
    noise_study,
    phantoms_text,
    study,
)
from ctsr.physics.figures import (
    detectability_figure,
    noise_figure,
    phantom_noise_figure,
    regions_figure,
    transfer_figure,
)
from tests.made.listener import Listener
from tests.made.slices import body

PIXEL = 0.8
FEW = PhysicsSettings(contrasts_hu=(-1000.0, 100.0), images=3)
QUIET = Degradation(mode="blur")
bilinear, bicubic = (by_interpolation(kind, 2, DEFAULT_RANGE) for kind in ("bilinear", "bicubic"))
run = partial(study, hu_range=DEFAULT_RANGE, pixel_mm=PIXEL)


def at(found: PhysicsStudy, method: str, contrast: float, dose: float) -> TransferAt:
    (one,) = (t for t in found.transfer if (t.method, t.contrast_hu, t.dose) == (method, contrast, dose))
    return one


def calmed(lr_hu: FloatArray) -> FloatArray:
    """Not linear: what is faint is smoothed, what is strong stays."""
    return bilinear(np.where(np.abs(lr_hu) < 200, ndimage.gaussian_filter(lr_hu, 1), lr_hu))


def along_one_axis(frequency: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Blur, bilinear sampling and bilinear enlarging, at cycles per HR pixel, derived from their weights."""
    params = conditions(QUIET)[0]
    taps = np.arange(params.blur_kernel) - params.blur_kernel // 2
    weights = np.exp(-0.5 * (taps / params.blur_sigma) ** 2)
    blur = (weights / weights.sum() * np.cos(2 * np.pi * frequency[..., None] * taps)).sum(axis=-1)
    # Two HR pixels become one (½, ½), which goes to HR pixels at ±½ and ±1½ of it with weights ¾ and ¼.
    enlarging = 0.75 * np.cos(np.pi * frequency) + 0.25 * np.cos(3 * np.pi * frequency)
    return blur * np.cos(np.pi * frequency) * enlarging


def test_phantoms_are_degraded_as_the_slices_of_the_evaluation_are() -> None:
    """They were sampled between two pixels and got white noise, whatever the options said."""
    coarse = by_interpolation("bilinear", 4, DEFAULT_RANGE)
    widths: dict[str, float] = {}
    for kind in ("bilinear", "area"):
        ranges = Degradation(mode="clean", scale=4, downsampling=(kind,))
        found = run({"bilinear": coarse}, ranges, settings=dataclasses.replace(FEW, contrasts_hu=(100.0,)))
        width = found.transfer[0].transfer.mtf50_per_mm
        assert width is not None
        widths[kind] = width
    # Half of the weight goes ±1½ pixels away: cos πf becomes (cos πf + cos 3πf) / 2.
    assert 0.8 < widths["area"] / widths["bilinear"] < 0.95

    powers: dict[str, npt.NDArray[np.float64]] = {}
    for model in ("white", "correlated"):
        ranges = Degradation(noise_model=(model,), noise_cutoff_range=(1.0, 1.0), dose_factor_range=(0.25, 0.25))
        found = run({"bilinear": bilinear}, ranges, settings=dataclasses.replace(FEW, contrasts_hu=(100.0,)))
        powers[model] = np.array(found.noise[0].spectrum.power_hu2_mm2)
    ratio = powers["correlated"] / powers["white"]
    # White noise is even; that of CT, of the same variance, ends at LR's Nyquist frequency: what it has lies below.
    lr_nyquist = len(ratio) // 2
    assert ratio[lr_nyquist // 3] > 2
    assert ratio[lr_nyquist - 1] < 0.3


def test_a_contrast_that_the_range_cuts_off_is_left_out() -> None:
    """A disc of 1000 HU was measured as one of 400, and called 1000."""
    heard = Listener()
    narrow = HURange(-500, 400)
    net = by_interpolation("bilinear", 2, narrow)
    settings = dataclasses.replace(FEW, contrasts_hu=(-1000.0, 100.0, 1000.0))
    found = study({"bilinear": net}, QUIET, narrow, PIXEL, settings=settings, progress=heard)
    assert found.settings.contrasts_hu == (100.0,)
    assert {one.contrast_hu for one in found.transfer} == {100.0}
    assert any("without discs of -1000, +1000 HU" in note for note in heard.notes)
    with pytest.raises(DomainError, match="no contrast of a phantom lies within 200 … 400 HU"):
        study({"bilinear": net}, QUIET, HURange(200, 400), PIXEL, settings=settings)


def test_what_phantoms_have_and_slices_may_have_instead_is_said() -> None:
    mixed = Degradation(scale=4, downsampling=("area", "bilinear"), noise_model=("exam", "correlated", "white"))
    assert phantoms_text(mixed) == (
        "Phantoms have a blur of σ 1.2 HR pixels, area downsampling, correlated noise of σ 0.002 in [-1, 1] "
        "at full dose up to 1 of LR's Nyquist frequency; slices of this evaluation may have bilinear downsampling "
        "and exam noise and white noise instead."
    )
    (quiet,) = conditions(Degradation(mode="clean", downsampling=("area",)))
    assert (quiet.downsampling, quiet.has_noise) == ("area", False)
    assert phantoms_text(Degradation(mode="clean")) == "Phantoms have bilinear downsampling."
    assert conditions(Degradation(noise_model=("projection",)))[0].noise_model == "white"


def test_a_linear_chain_has_the_transfer_that_its_weights_say() -> None:
    found = run({"bilinear": bilinear}, QUIET, settings=FEW)
    transfer = at(found, "bilinear", 100.0, 1.0).transfer
    frequency = np.array(transfer.frequencies_per_mm)[:, None] * PIXEL
    angle = np.linspace(0, np.pi / 2, 91)
    every_way = along_one_axis(frequency * np.cos(angle)) * along_one_axis(frequency * np.sin(angle))
    expected = np.sinc(frequency[:, 0]) * every_way.mean(axis=1)
    assert np.allclose(transfer.values[:60], expected[:60], atol=0.03)


def test_a_linear_method_leaves_every_contrast_alike_and_another_does_not() -> None:
    found = run({"bilinear": bilinear, "calmed": calmed}, QUIET, settings=FEW)
    straight, bent = (
        [at(found, method, contrast, 1.0).transfer.mtf50_per_mm for contrast in FEW.contrasts_hu]
        for method in ("bilinear", "calmed")
    )
    assert straight[0] == pytest.approx(straight[1], rel=0.01)
    assert bent[0] is not None
    assert bent[1] is not None
    assert bent[0] > 1.2 * bent[1]


def test_bicubic_resolves_more_than_bilinear_and_passes_more_noise() -> None:
    found = run({"bilinear": bilinear, "bicubic": bicubic}, Degradation(), settings=FEW)
    for dose in (0.25, 0.5):
        smooth, sharp = (at(found, method, 100.0, dose).transfer.mtf50_per_mm for method in ("bilinear", "bicubic"))
        assert smooth is not None
        assert sharp is not None
        assert sharp > smooth * 1.1
        less, more = (one.spectrum.std_hu for one in found.noise if one.dose == dose)
        assert more > 1.2 * less


def test_noise_follows_the_dose_as_its_root() -> None:
    found = run({"bilinear": bilinear}, Degradation(), settings=FEW)
    quarter, half = (one.spectrum.std_hu for one in found.noise)
    assert quarter / half == pytest.approx(math.sqrt(2), rel=0.05)
    assert quarter / half != pytest.approx(math.sqrt(2), rel=1e-6), "both doses have the same noise, scaled"
    assert found.lr_noise_hu == pytest.approx((6.0, 6.0 / math.sqrt(2)))
    # Bilinear weights ¾ and ¼ along each axis leave 10/16 of white noise's standard deviation.
    assert quarter == pytest.approx(6.0 * 10 / 16, rel=0.05)


def test_detectability_is_stated_for_faint_discs_only_and_grows_with_their_size() -> None:
    settings = PhysicsSettings(contrasts_hu=(-1000.0, 30.0), images=2, faint_images=4)
    found = run({"bilinear": bilinear}, Degradation(), settings=settings)
    assert {one.contrast_hu for one in found.detectability} == {30.0}
    of_quarter = [one.d_prime for one in found.detectability if one.dose == 0.25]
    assert len(of_quarter) == 3
    assert of_quarter == sorted(of_quarter, key=lambda d_prime: d_prime or 0)
    assert of_quarter[0]


def test_a_study_is_a_function_of_its_seed() -> None:
    few = PhysicsSettings(contrasts_hu=(100.0,), images=1)
    both = run({"bilinear": bilinear, "bicubic": bicubic}, Degradation(), settings=few)
    alone = run({"bicubic": bicubic}, Degradation(), settings=few)
    assert [one for one in both.transfer if one.method == "bicubic"] == list(alone.transfer)
    assert [one for one in both.noise if one.method == "bicubic"] == list(alone.noise)
    assert alone.noise != run({"bicubic": bicubic}, Degradation(), settings=few, seed=1).noise


def test_networks_are_studied_on_both_scales() -> None:
    for scale in (2, 4):
        net = by_network(build(Architecture("rrdb", scale, nf=4, nb=1, gc=2)), scale, DEFAULT_RANGE)
        found = run({"net": net}, Degradation(scale=scale), settings=PhysicsSettings(contrasts_hu=(100.0,), images=1))
        assert found.lr_nyquist_per_mm == pytest.approx(1 / (2 * PIXEL * scale))


def test_a_study_becomes_json() -> None:
    found = run({"bilinear": bilinear}, QUIET, settings=FEW)
    again = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert again["transfer"][0]["transfer"]["mtf50_per_mm"] == found.transfer[0].transfer.mtf50_per_mm


def test_a_method_of_another_scale_is_refused() -> None:
    wrong: SuperResolver = by_interpolation("bilinear", 4, DEFAULT_RANGE)
    with pytest.raises(DomainError, match="check its scale"):
        run({"wrong": wrong}, Degradation(), settings=FEW)
    with pytest.raises(DomainError, match="needs a method"):
        run({}, Degradation())


def test_without_noise_there_is_one_condition() -> None:
    assert len(conditions(Degradation())) == 2
    assert len(conditions(QUIET)) == len(conditions(Degradation(mode="clean"))) == 1
    assert [one.dose for one in conditions(Degradation(), (1.0, 0.1))] == [0.1, 1.0]


def test_every_curve_is_drawn() -> None:
    settings = PhysicsSettings(contrasts_hu=(-1000.0, 30.0), images=2, faint_images=2)
    found = run({"bilinear": bilinear, "bicubic": bicubic}, Degradation(), settings=settings)
    curves = [len(axes.lines) for axes in transfer_figure(found).axes]
    assert curves == [2 * 2 + 3] * 2, "two methods at two doses, the two levels and LR's end"
    assert len(phantom_noise_figure(found).axes) == 2
    assert len(detectability_figure(found).axes[0].patches) == 2 * 2 * 3
    slice_hu = body(noise=10)
    noise = noise_study([NoiseSlice(slice_hu, {"same": slice_hu})], PIXEL)
    assert len(noise_figure(noise, "made").axes[0].lines) == 4
    assert len(regions_figure(slice_hu, noise.regions[0], PRESETS["soft_tissue"]).axes[0].patches) == len(
        noise.regions[0]
    )


def test_phantoms_are_downsampled_as_slices_are() -> None:
    for mode in ("clean", "blur", "blurnoise"):
        area = Degradation(mode, 4, downsampling=("area",))  # type: ignore[arg-type]
        assert {one.downsampling for one in conditions(area)} == {"area"}
    assert conditions(Degradation("clean", antialias_clean=True))[0].downsampling == "triangle"
