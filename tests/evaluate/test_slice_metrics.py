import numpy as np
import pytest
import torch

from ctsr.evaluate.slice_metrics import Domain, MetricEvaluator
from ctsr.hu import DEFAULT_RANGE, PRESETS, HURange, MetricWindow, Window
from ctsr.metrics import METRICS, MetricValue, choose_metrics, of_group
from tests.made.ct import body

GLOBAL = PRESETS["global"]
NAMES = (*of_group("fidelity"), *of_group("hu"), *of_group("tissue"))


def unit(hu: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(DEFAULT_RANGE.to_unit(hu))[None, None]


def rows_of_slices(
    images: torch.Tensor, reference: np.ndarray, window: Window, hu_range: HURange = DEFAULT_RANGE, mask="none"
) -> list[dict[str, MetricValue]]:
    domain = Domain(MetricWindow(window, "some"), mask)
    return MetricEvaluator(hu_range, (domain,), NAMES)(images, reference)[domain]


def test_an_error_in_hu_is_measured_in_hu() -> None:
    reference = np.linspace(-900, 1500, 32 * 32).reshape(32, 32)
    (found,) = rows_of_slices(unit(reference + 15.0), reference, GLOBAL)
    for name in ("MAE_HU", "RMSE_HU", "BIAS_HU"):
        assert found[name].value == pytest.approx(15.0, abs=1e-3)
    assert found["MAE"].value == pytest.approx(15 / 3000, abs=1e-6)


@pytest.mark.parametrize("window", [GLOBAL, PRESETS["soft_tissue"]])
def test_one_hu_scores_alike_near_zero_and_far_from_it(window: Window) -> None:
    """A metric that guesses its domain from the data's range scores 6 dB here and 69 dB there."""
    scores = []
    for level in (0.0, 2.0, 100.0):
        reference = np.full((16, 16), level)
        (found,) = rows_of_slices(unit(reference + 1.0), reference, window)
        scores.append(found["PSNR"].value)
    assert scores == pytest.approx([20 * np.log10(window.width)] * 3, abs=0.01)


def test_a_narrow_window_sees_nothing_of_what_lies_outside_it() -> None:
    reference = np.full((16, 16), 1000.0)
    (found,) = rows_of_slices(unit(reference + 100.0), reference, PRESETS["soft_tissue"])
    assert found["PSNR"] == MetricValue(None, "identical")
    assert found["MAE_HU"].value == pytest.approx(100, abs=1e-3)


def test_what_the_model_cannot_represent_counts_where_the_window_shows_it() -> None:
    implant = np.full((16, 16), 3000.0)
    wide = Window.from_range(-1000, 4000)
    (found,) = rows_of_slices(unit(implant), implant, wide)
    assert found["MAE"].value == pytest.approx(1000 / 5000, abs=1e-6)
    assert found["MAE_HU"].value == pytest.approx(0, abs=1e-3)


def test_the_models_range_is_read_back_as_hu() -> None:
    narrow = HURange(-200, 300)
    reference = np.linspace(-150, 250, 256).reshape(16, 16)
    image = torch.from_numpy(narrow.to_unit(reference))[None, None]
    (found,) = rows_of_slices(image, reference, Window(40, 400), narrow)
    assert found["MAE_HU"].value == pytest.approx(0, abs=1e-4)


def constant(value: float):
    return lambda image, reference: (MetricValue(value),) * len(image)


def shape_of(axis: int):
    return lambda image, reference: (MetricValue(float(image.shape[axis])),) * len(image)


def test_every_column_has_a_value_or_a_reason() -> None:
    domain = Domain(MetricWindow(GLOBAL, "g"))
    learned = {"LPIPS": constant(0.1), "MA": constant(6), "NIQE": constant(4)}
    judge = MetricEvaluator(DEFAULT_RANGE, (domain,), choose_metrics(["default"]), learned, pi_with_ma=True)
    (found,) = judge(torch.rand(1, 1, 64, 64), np.full((64, 64), 40.0))[domain]
    assert list(found) == list(choose_metrics(["default"]))
    assert {name for name, value in found.items() if value.value is None} == {
        f"{metric}_{tissue}" for metric in ("MAE_HU", "BIAS_HU") for tissue in ("air", "lung", "fat", "bone", "metal")
    }
    assert found["BIAS_HU_bone"].reason == "no bone"


def test_the_perceptual_index_is_half_of_niqe_and_ten_less_ma_or_niqe_alone() -> None:
    domain = Domain(MetricWindow(GLOBAL, "g"))
    learned = {"MA": constant(6), "NIQE": constant(4)}
    for with_ma, index in ((True, 4.0), (False, 4.0)):
        learned["NIQE"] = constant(index if not with_ma else 4)
        judge = MetricEvaluator(DEFAULT_RANGE, (domain,), ("MA", "NIQE", "PI"), learned, with_ma)
        (found,) = judge(torch.rand(1, 1, 32, 32), np.zeros((32, 32)))[domain]
        assert found["PI"].value == index
    (left_out,) = MetricEvaluator(DEFAULT_RANGE, (domain,), ("MA", "NIQE", "PI"), learned, pi_with_ma=True)(
        torch.rand(1, 1, 32, 32), np.zeros((32, 32)), frozenset({"MA"})
    )[domain]
    assert left_out["NIQE"].value == 4
    assert left_out["PI"].value is left_out["MA"].value is None


def test_the_error_of_each_tissue_is_its_own() -> None:
    reference = np.repeat(np.array([-1000.0, -850, -90, 50, 900]), 30)[None].repeat(60, axis=0)
    offset = np.repeat(np.array([1.0, -2, 3, -4, 5]), 30)[None].repeat(60, axis=0)
    (found,) = rows_of_slices(unit(reference + offset), reference, GLOBAL)
    for tissue, error in {"air": 1, "lung": -2, "fat": 3, "soft": -4, "bone": 5}.items():
        assert found[f"BIAS_HU_{tissue}"].value == pytest.approx(error, abs=1e-3)
        assert found[f"MAE_HU_{tissue}"].value == pytest.approx(abs(error), abs=1e-3)
    assert found["BIAS_HU_metal"].reason == "no metal"


def test_on_the_body_the_air_around_it_does_not_count() -> None:
    """Half of the picture is air that every method gets right: it halves the error, and says nothing."""
    reference = np.full((80, 80), -1000.0)
    reference[20:60, 10:70] = 40.0
    wrong = np.where(reference > 0, reference + 30, reference)
    (whole,), (body_only,) = (rows_of_slices(unit(wrong), reference, GLOBAL, mask=mask) for mask in ("none", "body"))
    assert body_only["MAE_HU"].value == pytest.approx(30, abs=1e-3)
    assert whole["MAE_HU"].value == pytest.approx(30 * 2400 / 6400, abs=1e-3)
    assert (body_only["PSNR"].value or 0) < (whole["PSNR"].value or 0)


def test_metrics_that_see_neighbours_get_the_bodys_box() -> None:
    reference = np.full((80, 90), -1000.0)
    reference[20:60, 10:70] = 40.0
    domains = tuple(Domain(MetricWindow(GLOBAL, "g"), mask) for mask in ("none", "body"))
    found = MetricEvaluator(DEFAULT_RANGE, domains, ("LPIPS", "NIQE"), {"LPIPS": shape_of(-2), "NIQE": shape_of(-1)})(
        unit(reference), reference
    )
    sizes = {domain.mask: tuple(value.value for value in found[domain][0].values()) for domain in domains}
    # The corners are rounded by the opening that parts the body from the table; its sides stay.
    assert sizes == {"none": (80, 90), "body": (40, 60)}


def test_a_slice_without_a_body_says_so() -> None:
    air = np.full((40, 40), -1000.0)
    (found,) = rows_of_slices(unit(air + 3), air, GLOBAL, mask="body")
    assert {found[name].reason for name in ("PSNR", "SSIM", "MAE_HU", "BIAS_HU")} == {"no body in the slice"}
    assert found["BIAS_HU_air"].value == pytest.approx(3, abs=1e-3)


def test_several_domains_are_measured_at_once_as_each_by_itself() -> None:
    reference = body(64, seed=1, texture=60).astype(float)
    image = unit(reference + np.random.default_rng(0).normal(0, 20, reference.shape))
    domains = tuple(Domain(MetricWindow(PRESETS[name], name), m) for name in ("lung", "bone") for m in ("none", "body"))
    together = MetricEvaluator(DEFAULT_RANGE, domains, NAMES)(image, reference)
    for domain in domains:
        assert together[domain] == MetricEvaluator(DEFAULT_RANGE, (domain,), NAMES)(image, reference)[domain]
    assert len({together[domain][0]["PSNR"] for domain in domains}) == len(domains)
    assert set(METRICS) >= set(NAMES)
