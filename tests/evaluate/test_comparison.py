import pytest
from scipy import stats

from ctsr.evaluate.methods import BICUBIC, BILINEAR, LANCZOS, MODEL
from ctsr.evaluate.statistics import compare, fewest_patients
from tests.evaluate.made import rows

GAIN = {MODEL: 5.0, BICUBIC: 0.3, BILINEAR: 0.0, LANCZOS: 0.2}


def compared(patients: int, baselines: tuple[str, ...], metric: str = "PSNR", gain: dict[str, float] = GAIN):
    made = rows(
        lambda p, i, m: 30 + int(p) + 0.1 * i + gain[m] * (1 + 0.01 * int(p)),
        {str(p): 2 + p % 3 for p in range(patients)},
        (*baselines, MODEL),
    )
    return [one for one in compare(made, [MODEL], baselines) if one.metric == metric]


@pytest.mark.parametrize(("baselines", "fewest"), [(1, 6), (2, 7), (3, 7), (4, 8)])
def test_the_fewest_patients_are_those_whose_smallest_p_can_reach_the_level(baselines: int, fewest: int) -> None:
    assert fewest_patients(baselines) == fewest
    assert baselines * stats.wilcoxon(range(1, fewest + 1)).pvalue < 0.05
    assert baselines * stats.wilcoxon(range(1, fewest)).pvalue > 0.05


def test_with_six_patients_and_two_interpolations_there_is_a_note_and_no_p() -> None:
    for one in compared(6, (BILINEAR, BICUBIC)):
        assert (one.p_value, one.p_holm) == (None, None)
        assert one.note == "6 patients: with 2 comparisons the test needs 7 to reach p < 0.05"
        assert one.better_on == one.n == 6


def test_a_model_that_is_better_on_every_patient_is_so_by_more_than_chance() -> None:
    for one in compared(7, (BILINEAR, BICUBIC)):
        assert one.p_value == pytest.approx(2 / 2**7)
        assert one.p_holm == pytest.approx(2 * 2 / 2**7)
        assert (one.better_on, one.note) == (7, "")


def test_holms_correction_grows_with_the_rank_and_never_falls() -> None:
    """Raw p: small against bilinear, larger against the others; the smallest is multiplied most."""
    gain = {BILINEAR: 0.0, BICUBIC: 4.99, LANCZOS: 5.01, MODEL: 5.0}
    made = rows(
        lambda p, _i, m: 30 + gain[m] + (0.02 * (-1) ** int(p) * int(p) if m == MODEL else 0),
        {str(p): 1 for p in range(10)},
        (BILINEAR, BICUBIC, LANCZOS, MODEL),
    )
    found = [one for one in compare(made, [MODEL], (BILINEAR, BICUBIC, LANCZOS)) if one.metric == "PSNR"]
    raw = sorted(one.p_value or 0 for one in found)
    expected, least = [], 0.0
    for rank, p in enumerate(raw):
        least = max(least, min(1.0, (3 - rank) * p))
        expected.append(least)
    assert sorted(one.p_holm or 0 for one in found) == pytest.approx(expected)
    assert found[0].p_holm == pytest.approx(3 * (found[0].p_value or 0))


def test_an_interpolation_without_a_difference_counts_as_a_hypothesis() -> None:
    found = compared(8, (BILINEAR, BICUBIC), gain={MODEL: 5.0, BILINEAR: 5.0, BICUBIC: 1.0})
    by_baseline = {one.baseline: one for one in found}
    assert by_baseline[BILINEAR].p_value is None
    assert by_baseline[BICUBIC].p_holm == pytest.approx(2 * (by_baseline[BICUBIC].p_value or 0))


def test_patients_without_a_difference_do_not_help_to_reach_the_level() -> None:
    made = rows(
        lambda p, _i, m: 30 + (1 + 0.1 * int(p) if m == MODEL and p != "0" else 0), {str(p): 1 for p in range(7)}
    )
    found = [one for one in compare(made, [MODEL], (BILINEAR, BICUBIC)) if one.metric == "PSNR"]
    assert {one.p_value for one in found} == {None}
    assert {one.note for one in found} == {
        "6 patients with a difference: with 2 comparisons the test needs 7 to reach p < 0.05"
    }


def test_each_patient_is_one_pair_however_many_slices_he_has() -> None:
    (one,) = compared(8, (BICUBIC,))
    assert one.n == 8
    assert one.difference == pytest.approx(sum(4.7 * (1 + 0.01 * p) for p in range(8)) / 8)


def test_where_nearer_to_zero_is_better_absolute_values_are_compared() -> None:
    made = rows(lambda p, _i, m: {MODEL: -0.5, BICUBIC: 2.0}[m], {str(p): 1 for p in range(8)}, (BICUBIC, MODEL))
    (one,) = (one for one in compare(made, [MODEL], (BICUBIC,)) if one.metric == "BIAS_HU")
    assert (one.difference, one.better_on) == (-1.5, 8)


def test_no_difference_has_no_p() -> None:
    for one in compared(9, (BICUBIC,), gain={MODEL: 1.0, BICUBIC: 1.0}):
        assert (one.p_value, one.note) == (None, "no difference on any patient")
