from dataclasses import replace
from pathlib import Path

from ctsr.data.hu_cache import StoredSeries
from ctsr.evaluate.methods import BICUBIC, MODEL
from ctsr.evaluate.statistics import by_patient, by_series, patient_means, strata
from tests.evaluate.made import rows


def stored(patient: str, **differing: object) -> StoredSeries:
    series = StoredSeries(
        folder=Path("store") / patient,
        patient_id=patient,
        series_uid="1.2.3",
        identities=("1",),
        z_mm=(0.0,),
        rows=8,
        columns=8,
        pixel_spacing=(0.8, 0.8),
        slice_thickness=2.5,
        kernel="B30f",
        scanner="",
        body_part="CHEST",
    )
    return replace(series, **differing)


def series_of(*several: StoredSeries) -> dict[tuple[str, str], StoredSeries]:
    return {(one.patient_id, one.series_uid): one for one in several}


def test_strata_are_what_differs_and_each_patient_counts_once_in_his_own() -> None:
    made = rows(lambda p, i, _m: {"anna": 10.0, "bert": 20.0, "cleo": 40.0}[p] + i, {"anna": 1, "bert": 3, "cleo": 1})
    series = series_of(stored("anna"), stored("bert", kernel="LUNG"), stored("cleo", kernel="LUNG"))
    found = strata(made, series)
    assert list(found) == ["kernel"]
    assert list(found["kernel"]) == ["B30f", "LUNG"]
    sharp = found["kernel"]["LUNG"][MODEL]["PSNR"]
    assert (sharp.mean, sharp.n) == ((21 + 40) / 2, 2)


def test_what_a_header_does_not_tell_is_a_stratum_of_its_own() -> None:
    made = rows(lambda *_: 1.0, {"anna": 1, "bert": 1})
    bare = stored("bert", kernel="", slice_thickness=None, body_part="")
    found = strata(made, series_of(stored("anna"), bare))
    assert {name: sorted(values) for name, values in found.items()} == {
        "kernel": ["B30f", "not told"],
        "slice thickness": ["2.5 mm", "not told"],
        "body part": ["CHEST", "not told"],
    }


def test_pixel_sizes_that_differ_in_the_third_digit_are_one_stratum() -> None:
    made = rows(lambda *_: 1.0, {"anna": 1, "bert": 1})
    assert not strata(made, series_of(stored("anna"), stored("bert", pixel_spacing=(0.803, 0.803))))
    found = strata(made, series_of(stored("anna"), stored("bert", pixel_spacing=(1.367, 1.367))))
    assert list(found["pixel spacing"]) == ["0.8 mm", "1.4 mm"]


def test_a_patients_mean_is_over_his_own_slices() -> None:
    made = rows(lambda p, i, m: i + (10.0 if m == BICUBIC else 0.0), {"anna": 3, "bert": 1})
    assert {patient: mean.value for patient, mean in patient_means(made, BICUBIC, "MAE").items()} == {
        "anna": 11.0,
        "bert": 10.0,
    }


def test_intervals_over_slices_are_labelled_as_that() -> None:
    made = rows(lambda _p, i, _m: float(i), {"anna": 9})
    for table in (by_patient(made)["anna"], by_series(made)["anna"]["1.2.3"]):
        assert table[MODEL]["PSNR"].ci95.note == "t over 9 slices of one patient"
