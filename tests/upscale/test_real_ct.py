"""Every real patient, super-resolved: valid for the checkers, and the same for every reader."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ctsr.checkpoint import Generator
from ctsr.exams import read_slice, scan
from ctsr.infer.choose import AskedFor
from ctsr.series import Series
from ctsr.upscale import Report, UpscaleOptions, upscale
from tests.made.exams import REAL_PATIENTS, only_series
from tests.oracles import dcentvfy_errors, dciodvfy_errors

EACH = 8
"""Slices of each patient."""


@pytest.fixture(scope="module")
def result(real_ct: Path, tmp_path_factory: pytest.TempPathFactory, bilinear: Generator) -> Report:
    out = tmp_path_factory.mktemp("upscaled")
    return upscale(real_ct / "patients", out, bilinear, AskedFor("torch"), UpscaleOptions(slices=f":{EACH}"))


def pair(result: Report, patient: str) -> tuple[Series, Series]:
    """The slices of the source that were asked for, and the result."""
    (job,) = (job for job in result.jobs if job.series.patient_id == patient)
    return job.series, only_series(job.output)


def test_every_patient_has_a_result(result: Report) -> None:
    assert result.failed == 0
    assert tuple(job.series.patient_id for job in result.jobs) == REAL_PATIENTS


def test_dciodvfy_finds_no_error_that_the_source_did_not_have(result: Report) -> None:
    pairs = [
        (old.path, new.path)
        for patient in REAL_PATIENTS
        for old, new in zip(*(one.slices for one in pair(result, patient)), strict=True)
    ]
    with ThreadPoolExecutor() as threads:
        found = threads.map(lambda both: dciodvfy_errors(both[1]) - dciodvfy_errors(both[0]), pairs)
        assert set().union(*found) == set()


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_dcentvfy_finds_source_and_result_in_harmony(result: Report, patient: str) -> None:
    source, new = ([header.path for header in one.slices] for one in pair(result, patient))
    assert dcentvfy_errors([*source, *new]) <= dcentvfy_errors(source)


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_a_marked_point_keeps_its_place_in_mm(result: Report, patient: str) -> None:
    source, new = pair(result, patient)
    for i in range(len(source.slices)):
        assert new.plane(i).position(200.5, 400.5) == pytest.approx(source.plane(i).position(100, 200), abs=1e-6)


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_homogeneous_tissue_keeps_its_mean_hu(result: Report, patient: str) -> None:
    source, new = pair(result, patient)
    for i in (0, EACH - 1):
        old, sharp = read_slice(source, i).hu.astype(np.float64), read_slice(new, i).hu.astype(np.float64)
        blocks, fine = (
            hu.reshape(hu.shape[0] // side, side, -1, side).transpose(0, 2, 1, 3).reshape(-1, side * side)
            for hu, side in ((old, 16), (sharp, 32))
        )
        tissue = (blocks.std(axis=1) < 120) & (np.abs(blocks.mean(axis=1) - 50) < 100)
        assert tissue.sum() > 20
        assert abs((fine.mean(axis=1) - blocks.mean(axis=1))[tissue].mean()) < 1


def test_what_is_written_counts_as_training_data_again(result: Report) -> None:
    """The result is CT that every verb can use: nothing of it is left out."""
    folder = result.jobs[0].output.parent.parent
    inventory = scan(folder)
    assert sum(len(one.slices) for one in inventory.all_series()) == EACH * len(REAL_PATIENTS)
    assert all(not patient.excluded for patient in inventory.patients)
