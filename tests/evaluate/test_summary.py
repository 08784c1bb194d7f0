import json
import math
from dataclasses import replace
from typing import Any

import pytest

from ctsr.degrade import Degradation, DegradationSampler
from ctsr.evaluate.methods import BICUBIC, BILINEAR, MODEL
from ctsr.evaluate.statistics import best_methods, by_method, patient_level
from ctsr.evaluate.summary import RowTables, SeriesDraws, degradation_part, metric_definitions, statistics_part
from ctsr.files import to_json
from ctsr.hu import DEFAULT_RANGE
from ctsr.metrics import of_group
from tests.evaluate.made import GLOBAL, METHODS, NAMES, ref, rows


def series_draws(sampler: DegradationSampler, patient: str, series: str, count: int) -> SeriesDraws:
    refs = [replace(ref(patient, i, series), deg_seed=sampler.patient_seed(patient)) for i in range(count)]
    draws = [(r, sampler.draw(patient, series, r.sop_instance_uid, r.slice_index)) for r in refs]
    return SeriesDraws(patient, series, draws)


def test_each_patient_counts_once_however_many_slices_he_has() -> None:
    made = rows(lambda patient, _i, _m: {"anna": 10.0, "bert": 20.0}[patient], {"anna": 9, "bert": 1})
    assert by_method(made)[MODEL]["PSNR"].mean == 11.0
    assert patient_level(made)[MODEL]["PSNR"].mean == 15.0
    assert patient_level(made)[MODEL]["PSNR"].n == 2


def test_a_metric_that_was_not_computed_is_null_and_counted_never_zero() -> None:
    found = statistics_part(RowTables.of(rows(lambda *_: 1.0, {"anna": 3})))
    for metric in of_group("perceptual"):
        one = found["global_per_slice"][MODEL][metric]
        assert one["mean"] is None
        assert (one["n"], one["not_computed"]) == (0, {"not computed": 3})


def test_identical_slices_are_outside_the_mean_and_outside_n() -> None:
    made = rows(lambda _p, index, _m: None if index == 0 else 40.0, {"anna": 3})
    one = statistics_part(RowTables.of(made))["per_patient"]["anna"][BICUBIC]["PSNR"]
    assert (one["mean"], one["n"], one["not_computed"]) == (40.0, 2, {"identical": 1})


def test_every_method_and_metric_is_in_every_table() -> None:
    found = statistics_part(RowTables.of(rows(lambda *_: 1.0, {"anna": 2, "bert": 1})))
    tables = [found["global_per_slice"], found["patient_level_aggregate"], *found["per_patient"].values()]
    tables += [table for series in found["per_series"].values() for table in series.values()]
    assert len(tables) == 6
    assert all(list(table) == list(METHODS) for table in tables)
    assert all(list(table[MODEL]) == list(NAMES) for table in tables)


def test_every_number_says_its_domain_window_and_data_range() -> None:
    said = metric_definitions(NAMES, GLOBAL, DEFAULT_RANGE)
    assert list(said) == list(NAMES)
    assert said["PSNR"]["domain"] == "[0, 1] from -1000 … 2000 HU"
    assert (said["PSNR"]["window"], said["PSNR"]["data_range"]) == ("globalHU_-1000_2000", 1.0)
    assert said["BIAS_HU_fat"]["mask"] == "fat of the reference, without its rim"
    body = metric_definitions(NAMES, replace(GLOBAL, mask="body"), DEFAULT_RANGE)
    assert [body[name]["mask"] for name in ("PSNR", "MAE_HU", "BIAS_HU_fat")] == [
        "body",
        "body",
        said["BIAS_HU_fat"]["mask"],
    ]
    assert {body[name]["mask"] for name in ("SSIM", "LPIPS", "NIQE")} == {"the smallest rectangle that holds the body"}
    assert (said["MAE_HU"]["unit"], said["MAE_HU"]["data_range"]) == ("HU", 3000.0)


def test_the_best_is_the_highest_the_lowest_or_the_nearest_to_zero() -> None:
    table = by_method(rows(lambda _p, _i, method: {BILINEAR: -3.0, BICUBIC: 1.0, MODEL: 2.0}[method], {"anna": 1}))
    assert best_methods(table, "PSNR") == (MODEL,)
    assert best_methods(table, "MSE") == (BILINEAR,)
    assert best_methods(table, "BIAS_HU") == (BICUBIC,)
    assert best_methods(table, "LPIPS") == ()


def test_in_volume_sampling_a_patient_has_one_draw_with_its_five_values() -> None:
    sampler = DegradationSampler(Degradation())
    part = degradation_part(sampler, [series_draws(sampler, "anna", "1.2", 3)])
    own = part["patient_to_degradation_sampled"]["anna"]
    drawn = sampler.draw("anna", "1.2", "1.2.0", 0).params
    assert [own[key] for key in ("sigma", "kernel", "noise_sigma", "dose")] == [
        drawn.blur_sigma,
        drawn.blur_kernel,
        drawn.noise_sigma,
        drawn.dose,
    ]
    assert own["noise_eff"] == drawn.noise_sigma / math.sqrt(drawn.dose)
    assert part["deg_seeds_per_patient"] == {"anna": sampler.patient_seed("anna")}
    assert (part["degradation_sampling"], part["deg_seed"]) == ("volume", 42)


def test_series_of_a_patient_that_were_drawn_apart_are_told_apart() -> None:
    sampler = DegradationSampler(Degradation())
    both = [series_draws(sampler, "anna", uid, 2) for uid in ("1.2", "1.3")]
    own = degradation_part(sampler, both)["patient_to_degradation_sampled"]["anna"]
    assert own["sigma"] is None
    for uid in ("1.2", "1.3"):
        assert own["by_series"][uid]["sigma"] == sampler.draw("anna", uid, "", 0).params.blur_sigma


@pytest.mark.parametrize("sampling", ["slice", "det-slice"])
def test_draws_of_each_slice_are_stored(sampling: Any) -> None:
    sampler = DegradationSampler(Degradation(), sampling)
    draws = series_draws(sampler, "anna", "1.2", 4)
    own = degradation_part(sampler, [draws])["patient_to_degradation_sampled"]["anna"]
    assert own["sigma"] is None
    stored = own["by_series"]["1.2"]["by_slice"]
    for (slice_ref, draw), one in zip(draws.draws, stored, strict=True):
        assert (one["slice_index"], one["sop_instance_uid"]) == (slice_ref.slice_index, slice_ref.sop_instance_uid)
        assert (one["sigma"], one["noise_eff"]) == (draw.params.blur_sigma, draw.params.noise_std)


def test_the_json_is_strict() -> None:
    assert json.loads(to_json({"µ": [1.5, None]})) == {"µ": [1.5, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"mean": math.nan})
