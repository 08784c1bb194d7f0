"""Lesions put in and left out, seen through methods whose answer is known."""

from collections.abc import Callable

import numpy as np
import pytest

from ctsr.data.pairs import SlicePair
from ctsr.degrade import Degradation, DegradationParams
from ctsr.errors import DomainError
from ctsr.hallucination import Lesion, LesionSpec, LesionTrial, contrast_of, insert, lesion_images, lesion_table
from ctsr.hallucination import lesion_trials as trials_of
from ctsr.hu import DEFAULT_RANGE, FloatArray, HURange
from ctsr.infer import SuperResolver, by_interpolation
from ctsr.physics import soft_disc
from tests.made.slices import body, pair_of

PIXEL = 0.8
QUIET = DegradationParams(blur_sigma=0.8, blur_kernel=5, noise_sigma=0.0, dose=1.0)
NOISE = DegradationParams(blur_sigma=0.8, blur_kernel=5, noise_sigma=0.003, dose=0.25)
HOW = {"degradation": Degradation(), "hu_range": DEFAULT_RANGE, "pixel_mm": PIXEL}
LESION = Lesion(128.3, 127.8, 8.0, 50.0, "soft tissue")
bicubic = by_interpolation("bicubic", 2, DEFAULT_RANGE)


def tried(resolve: SuperResolver, lesion: Lesion = LESION, pair: SlicePair | None = None) -> LesionTrial:
    (trial,) = trials_of("one", pair or pair_of(body(), QUIET), [lesion], {"method": resolve}, **HOW)
    return trial


def painting(hu: float) -> Callable[[FloatArray], FloatArray]:
    """Bicubic with a disc in the middle of whatever it is given."""
    return lambda lr: bicubic(lr) + hu * soft_disc((128, 128), (63.5, 63.5), 5)


def test_a_lesion_has_its_contrast_inside_and_leaves_the_rest_alone() -> None:
    hr = body(texture=30)
    change = insert(hr, LESION, PIXEL) - hr
    assert change[128, 128] == pytest.approx(50, abs=1e-3)
    assert np.count_nonzero(change) < np.pi * (4 + 1) ** 2 / PIXEL**2
    # The edge falls from 1 at 3.25 mm to ½ at 4 mm: the mean of that profile over the disc is 0.912.
    assert contrast_of(insert(body(), LESION, PIXEL), LESION, PIXEL) == pytest.approx(45.6, rel=0.02)


def test_an_honest_method_returns_a_large_lesion_at_its_place_and_shows_none_without() -> None:
    trial = tried(bicubic)
    assert 0.85 < trial.recovered < 1.02
    assert trial.position_error_mm is not None
    assert trial.position_error_mm < 0.1
    assert abs(trial.false_contrast_hu) < 0.1
    assert not trial.appeared


def test_small_lesions_come_back_less() -> None:
    shares = [tried(bicubic, Lesion(128.3, 127.8, d, 50, "soft tissue")).recovered for d in (3.0, 5.0, 8.0)]
    assert shares == sorted(shares)
    assert shares[0] < 0.8


def test_a_linear_method_returns_the_same_share_whatever_the_contrast_and_the_noise() -> None:
    quiet = tried(bicubic)
    faint = tried(bicubic, Lesion(128.3, 127.8, 8.0, -20.0, "soft tissue"), pair_of(body(texture=10), NOISE))
    assert faint.recovered == pytest.approx(quiet.recovered, abs=0.01)


def test_a_method_that_removes_lesions_returns_nothing() -> None:
    trial = tried(lambda lr: np.full((128, 128), 40.0))
    assert (trial.recovered, trial.position_error_mm) == (0, None)


def test_a_method_that_paints_lesions_is_caught_where_there_is_none() -> None:
    """Its lesion is there with and without, so none of it counts as recovered."""
    trial = tried(painting(50))
    assert trial.false_contrast_hu > 40
    assert trial.appeared
    assert trial.recovered == pytest.approx(tried(bicubic).recovered, abs=1e-3)
    assert not tried(painting(-50)).appeared, "a dark spot is no bright lesion"


def test_a_shifted_lesion_is_found_where_it_went() -> None:
    trial = tried(lambda lr: np.roll(bicubic(lr), 2, axis=1))
    assert trial.position_error_mm == pytest.approx(2 * PIXEL, abs=0.1)


def test_the_lesion_is_all_that_changes_in_lr() -> None:
    images = lesion_images(pair_of(body(texture=30), NOISE), LESION, **HOW)
    assert images.hr_with.shape == (128, 128)
    change = np.abs(images.lr_with - images.lr_without)
    center = (round(images.lesion.row / 2), round(images.lesion.column / 2))
    assert change[center] == pytest.approx(50, rel=0.1)
    change[center[0] - 6 : center[0] + 7, center[1] - 6 : center[1] + 7] = 0
    assert change.max() == 0, "the noise is another one"


@pytest.mark.parametrize(("lung", "contrast", "is_tried"), [(-975, -100, False), (-975, 100, True), (-850, -100, True)])
def test_a_lesion_that_the_range_cuts_off_is_none_of_its_contrast(lung: float, contrast: float, is_tried: bool) -> None:
    """Lung of −975 HU less 100 is air of −1000: its 25 HU counted as 100, and a range that ends there divided by 0."""
    pair = pair_of(np.full((256, 256), lung, np.float32), QUIET)
    lesion = Lesion(128.3, 127.8, 8.0, contrast, "lung")
    assert bool(trials_of("one", pair, [lesion], {"bicubic": bicubic}, **HOW)) == is_tried
    above = HOW | {"hu_range": HURange(-700, 2000)}
    assert trials_of("one", pair, [lesion], {"bicubic": bicubic}, **above) == []


def test_a_lesion_near_the_border_is_seen_at_its_place() -> None:
    lesion = Lesion(40.0, 128.0, 8.0, 50.0, "soft tissue")
    images = lesion_images(pair_of(body(), QUIET), lesion, **HOW)
    assert images.hr_with.shape == (128, 128)
    assert contrast_of(images.hr_with - images.hr_without, images.lesion, PIXEL) == pytest.approx(45.6, rel=0.03)


def test_a_slice_gets_each_lesion_once_well_inside_its_tissue() -> None:
    hr, spec = body(texture=20), LesionSpec()
    lesions = spec.sample(hr, PIXEL, np.random.default_rng(0))
    assert sorted((one.diameter_mm, one.contrast_hu) for one in lesions) == sorted(
        (d, c) for d in spec.diameters_mm for c in spec.contrasts_hu
    )
    for one in lesions:
        away = np.hypot(one.row - 128, one.column - 128) + one.diameter_mm / 2 / PIXEL
        assert away < 0.46 * 256
    assert lesions == spec.sample(hr, PIXEL, np.random.default_rng(0))
    assert lesions != spec.sample(hr, PIXEL, np.random.default_rng(1))


def test_lungs_get_lesions_too() -> None:
    hr = body()
    rows, columns = np.ogrid[:256, :256]
    hr[np.hypot(rows - 128, columns - 90) < 40] = -850
    tissues = {one.tissue for one in LesionSpec().sample(hr, PIXEL, np.random.default_rng(0))}
    assert tissues == {"soft tissue", "lung"}


def test_a_slice_of_air_gets_none() -> None:
    assert LesionSpec().sample(np.full((256, 256), -1000.0), PIXEL, np.random.default_rng(0)) == ()
    with pytest.raises(DomainError, match="other than 0"):
        LesionSpec(contrasts_hu=(0.0,))


def trial(recovered: float, false: float, contrast: float = 20.0) -> LesionTrial:
    return LesionTrial("s", "m", Lesion(0, 0, 3.0, contrast, "lung"), recovered, false, 0.5)


def test_the_table_is_by_method_size_and_contrast() -> None:
    first, second = lesion_table([trial(0.8, 3), trial(1.0, 12), trial(0.5, -4, contrast=-50.0)])
    assert (first.lesions, second.lesions) == (2, 1)
    assert (first.recovered_mean, second.recovered_mean) == pytest.approx((0.9, 0.5))
    assert first.recovered_sd == pytest.approx(np.sqrt(0.02))
    assert second.recovered_sd is None
    assert (first.appeared, second.appeared) == (0.5, 0.0)
    # What appears without a lesion does not depend on the lesion's contrast: all places of a size count.
    assert first.false_contrast_sd_hu == second.false_contrast_sd_hu == pytest.approx(np.sqrt((9 + 144 + 16) / 3))
