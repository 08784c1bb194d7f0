"""All checks together, on made and on real slices."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ctsr.data.hu_cache import open_series
from ctsr.data.pairs import slice_pair
from ctsr.degrade import Degradation, DegradationParams, DegradationSampler
from ctsr.errors import DomainError
from ctsr.exams import scan
from ctsr.hallucination import (
    HallucinationSettings,
    LesionSpec,
    NamedPair,
    lesion_images,
    residual_hu,
    study,
)
from ctsr.hallucination.study import flagged_figure, lesion_figure, recovery_figure, residual_figure, sfrc_figure
from ctsr.hu import DEFAULT_RANGE, PRESETS, FloatArray
from ctsr.infer import by_interpolation
from ctsr.physics import NoiseSlice, noise_study, soft_disc
from tests.made.slices import body, pair_of

PIXEL = 0.8
NOISE = DegradationParams(blur_sigma=0.8, blur_kernel=5, noise_sigma=0.002, dose=0.5)
HOW = {"degradation": Degradation(), "hu_range": DEFAULT_RANGE}
LESIONS = LesionSpec(diameters_mm=(5.0,), contrasts_hu=(50.0,))
bilinear, bicubic = (by_interpolation(kind, 2, DEFAULT_RANGE) for kind in ("bilinear", "bicubic"))
run = partial(study, settings=HallucinationSettings(lesions=LESIONS), **HOW)


def painter(lr_hu: FloatArray) -> FloatArray:
    """Bicubic with a lesion of 60 HU in the middle of a part, and one to the upper right of a whole slice's."""
    sr = bicubic(lr_hu)
    center = (63.5, 63.5) if sr.shape == (128, 128) else (112, 144)
    return sr + 60 * soft_disc(sr.shape, center, 6)


def subjects(count: int = 2) -> list[NamedPair]:
    return [
        NamedPair(f"slice {i}", pair_of(body(texture=12, noise=15, seed=i), NOISE, noise_seed=i), PIXEL)
        for i in range(count)
    ]


def test_a_method_that_invents_is_told_from_one_that_does_not() -> None:
    found = run(subjects(), {"honest": bicubic, "painter": painter})
    honest, dishonest = found.summaries
    assert dishonest.flagged_within_lr >= honest.flagged_within_lr + 4
    assert dishonest.flagged_share is not None
    assert honest.flagged_share is not None
    assert dishonest.flagged_share > honest.flagged_share
    place = found.slices[1].consistency.worst_patch
    assert place is not None
    assert (place.row, place.column) == (48, 64)
    assert abs(dishonest.worst_patch_in_noise or 0) > 1.5 * abs(honest.worst_patch_in_noise or 0)
    assert [row.appeared for row in found.lesions] == [0.0, 1.0]


def test_the_summary_is_that_of_its_slices() -> None:
    found = run(iter(subjects()), {"bicubic": bicubic})
    (summary,) = found.summaries
    each = [one.consistency.mean_abs_hu for one in found.slices]
    assert summary.mean_abs_hu == pytest.approx(np.mean(each))
    assert summary.worst_mean_abs_hu == max(each)
    assert summary.worst_slice == found.slices[int(np.argmax(each))].slice_name
    assert summary.judged == sum(one.sfrc.judged for one in found.slices)


def test_neither_the_order_of_slices_nor_other_methods_change_a_result() -> None:
    first, second = subjects()
    forward = run([first, second], {"bicubic": bicubic})
    backward = run([second, first], {"bilinear": bilinear, "bicubic": bicubic})
    assert {one.slice_name: one for one in forward.trials} == {
        one.slice_name: one for one in backward.trials if one.method == "bicubic"
    }
    assert set(forward.slices) == {one for one in backward.slices if one.method == "bicubic"}
    assert forward.trials != run([first, second], {"bicubic": bicubic}, seed=1).trials


def test_slices_of_other_names_get_other_lesions() -> None:
    pair = subjects(1)[0].pair
    one, other = run([NamedPair("a", pair, PIXEL), NamedPair("b", pair, PIXEL)], {"bicubic": bicubic}).trials
    assert one.lesion != other.lesion


@pytest.mark.parametrize(
    ("degradation", "params"),
    [
        (Degradation(scale=4), DegradationParams(1.2, 7, 0.002, 0.5)),
        (Degradation(mode="clean", antialias_clean=True), DegradationParams(0.0, 1, 0.0, 1.0)),
    ],
)
def test_lr_is_made_again_as_it_was_made(degradation: Degradation, params: DegradationParams) -> None:
    """A method that gives HR back leaves LR's noise and nothing else."""
    hr = body(texture=12, noise=15)
    subject = NamedPair("one", pair_of(hr, params, degradation), PIXEL)
    # Lesions are seen in part of a slice, which this method cannot tell: it is left out of them.
    settings = HallucinationSettings(lesions=None)
    (found,) = run([subject], {"perfect": lambda lr: hr}, degradation=degradation, settings=settings).slices
    assert found.consistency.mean_abs_hu <= 1.01 * found.consistency.noise_mean_abs_hu + 1e-3
    assert found.sfrc.flagged == ()
    kind = by_interpolation("bicubic", degradation.scale, DEFAULT_RANGE)
    (row,) = run([subject], {"bicubic": kind}, degradation=degradation).lesions
    assert 0.3 < row.recovered_mean < 1.1


def test_a_study_becomes_json() -> None:
    found = run(subjects(1), {"bicubic": bicubic})
    again = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert again["summaries"][0]["mean_abs_hu"] == found.summaries[0].mean_abs_hu
    assert again["slices"][0]["sfrc"]["settings"]["limit_per_mm"] == 0.33


def test_lesions_can_be_left_out() -> None:
    found = run(subjects(1), {"bicubic": bicubic}, settings=HallucinationSettings(lesions=None))
    assert (found.lesions, found.trials) == ((), ())


def test_a_study_of_nothing_is_refused() -> None:
    with pytest.raises(DomainError, match="at least one"):
        run([], {"bicubic": bicubic})


def test_what_was_found_is_drawn() -> None:
    (subject,) = subjects(1)
    found = run([subject], {"bicubic": bicubic, "painter": painter})
    lr = DEFAULT_RANGE.to_hu(subject.pair.lr[0, 0].numpy())
    checks, window = found.slices[1], PRESETS["soft_tissue"]
    figure = sfrc_figure(painter(lr), subject.pair.hr_hu, checks.sfrc, PIXEL, window, scale=2, title="painter")
    assert len(figure.axes[0].patches) == len(figure.axes[1].patches) == len(checks.sfrc.flagged) > 0
    residual = residual_hu(painter(lr), lr, NOISE, scale=2, hu_range=DEFAULT_RANGE)
    assert len(residual_figure({"painter": residual}, 3.0, title="one").axes) == 2
    images = lesion_images(subject.pair, found.trials[0].lesion, pixel_mm=PIXEL, **HOW)
    shown = {"bicubic": (bicubic(images.lr_with), bicubic(images.lr_without))}
    assert len(lesion_figure(images, shown, window).axes) == 9
    assert len(recovery_figure(found).axes) == 1
    patches = flagged_figure(painter(lr), subject.pair.hr_hu, checks.sfrc, window, title="painter", most=3)
    assert len(patches.axes) == 2 * min(3, len(checks.sfrc.flagged))
    nothing = dataclasses.replace(checks.sfrc, flagged=())
    with pytest.raises(DomainError, match="nothing to show"):
        flagged_figure(lr, lr, nothing, window, title="none")
    assert len(sfrc_figure(lr, lr, nothing, PIXEL, window, scale=2, title="none").axes) == 2


def test_on_real_ct_interpolation_invents_nothing_and_noise_is_found_in_organs(real_ct: Path, tmp_path: Path) -> None:
    (patient,) = scan(real_ct / "patients" / "LIDC-IDRI-0001").patients
    stored = open_series(patient.series[0], tmp_path)
    pixel, sampler = stored.pixel_spacing[0], DegradationSampler(Degradation())
    slices = [NamedPair(str(i), slice_pair(stored, i, sampler), pixel) for i in (20, 21)]
    found = study(slices, {"bilinear": bilinear, "bicubic": bicubic}, **HOW)
    smooth, sharp = found.summaries
    assert sharp.judged > 240
    assert sharp.flagged_share is not None
    assert sharp.flagged_share < 0.25
    assert sharp.flagged_within_lr < 0.03 * sharp.judged
    assert sharp.mean_abs_hu < smooth.mean_abs_hu, "bicubic is nearer to LR than bilinear, which blurs once more"
    for weak, strong in zip(found.lesions[::2], found.lesions[1::2], strict=True):
        assert 0.4 < weak.recovered_mean < strong.recovered_mean < 1.0
        assert strong.position_error_mm is not None
        assert strong.position_error_mm < 0.4
    noise = noise_study([NoiseSlice(stored.slice_hu(21), {}, stored.padding(21))], pixel)
    assert sum(len(one) for one in noise.regions) >= 1
    assert 5 < noise.spectra["HR"].std_hu < 30
