"""Every real patient, super-resolved: valid for the checkers, and the same for every reader."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from highdicom import get_volume_from_series
from pydicom import dcmread

from ctsr.checkpoint import Model
from ctsr.exams import read_slice, read_volume, scan
from ctsr.hu import DEFAULT_RANGE, tissue_blocks
from ctsr.infer import EngineRequest, SliceSuperResolver, TorchEngine, body_roi
from ctsr.models import Architecture, build
from ctsr.models.interpolation import enlarge
from ctsr.models.networks import RRDBNet, start_as_bilinear
from ctsr.series import Series
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.run import Report, upscale
from ctsr.volume import Volume
from tests.made.exams import REAL_PATIENTS, only_series
from tests.needs import wants_all_slices
from tests.oracles import dcentvfy_errors, dciodvfy_errors, dcm2niix

EACH = 8
"""Slices of each patient, unless all are wanted."""


@pytest.fixture(scope="module")
def result(real_ct: Path, tmp_path_factory: pytest.TempPathFactory, bilinear: Model) -> Report:
    out = tmp_path_factory.mktemp("upscaled")
    options = UpscaleOptions(slices=None if wants_all_slices() else f":{EACH}")
    return upscale(real_ct / "patients", out, bilinear, EngineRequest("torch"), options)


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
    for i in (0, len(source.slices) - 1):
        old, sharp = read_slice(source, i).hu.astype(np.float64), read_slice(new, i).hu.astype(np.float64)
        blocks, fine = (
            hu.reshape(hu.shape[0] // side, side, -1, side).transpose(0, 2, 1, 3).reshape(-1, side * side)
            for hu, side in ((old, 16), (sharp, 32))
        )
        tissue = (blocks.std(axis=1) < 120) & (np.abs(blocks.mean(axis=1) - 50) < 100)
        assert tissue.sum() > 20
        assert abs((fine.mean(axis=1) - blocks.mean(axis=1))[tissue].mean()) < 1


def test_what_is_written_counts_as_training_data_again(result: Report) -> None:
    """The result is CT that every command can use: nothing of it is left out."""
    folder = result.jobs[0].output.parent.parent
    inventory = scan(folder)
    made = sum(len(job.series.slices) for job in result.jobs)
    assert sum(len(one.slices) for one in inventory.all_series()) == made >= EACH * len(REAL_PATIENTS)
    assert all(not patient.excluded for patient in inventory.patients)


def volume(result: Report, patient: str) -> Volume:
    return read_volume(pair(result, patient)[1])


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_highdicom_and_simpleitk_read_the_same_hu_at_the_same_places(result: Report, patient: str) -> None:
    ours = volume(result, patient)
    seen = ... if ours.padding is None else ~ours.padding
    paths = [header.path for header in pair(result, patient)[1].slices]
    datasets = [dcmread(path) for path in paths]
    for ds in datasets:
        ds.FrameOfReferenceUID = datasets[0].FrameOfReferenceUID  # one each, in a source; highdicom refuses that
    theirs = get_volume_from_series(datasets, dtype=np.float32)
    there = np.linalg.inv(theirs.affine) @ ours.grid.affine
    assert np.allclose((there @ [len(paths) - 1, 0, 0, 1])[:3], 0, atol=1e-3)
    assert np.allclose(theirs.spacing, ours.grid.spacing, atol=1e-5)
    assert (theirs.array[::-1][seen] == ours.hu[seen]).all()

    itk = SimpleITK.ReadImage([str(path) for path in paths])
    assert np.allclose(itk.GetOrigin(), ours.grid.origin, atol=1e-6)
    assert np.allclose(itk.GetSpacing()[:2], ours.grid.spacing[:0:-1], atol=1e-6)
    assert (SimpleITK.GetArrayFromImage(itk)[seen] == ours.hu[seen]).all()


@pytest.mark.parametrize("patient", REAL_PATIENTS)
def test_dcm2niix_reads_the_same_hu_at_the_same_places(result: Report, tmp_path: Path, patient: str) -> None:
    ours = volume(result, patient)
    seen = ... if ours.padding is None else ~ours.padding
    theirs = nib.load(dcm2niix(pair(result, patient)[1].path, tmp_path))
    values = np.asarray(theirs.dataobj).transpose(2, 1, 0)[:, ::-1]
    assert (values[seen] == ours.hu[seen]).all()
    corner = (np.diag([-1, -1, 1, 1]) @ theirs.affine)[:3, 3]
    assert np.allclose(corner, ours.grid.position((0, ours.grid.shape[1] - 1, 0)), atol=1e-3)


@pytest.mark.parametrize("patient", ["ACRIN-013", "C3L-00189"])
def test_skipping_air_changes_nothing_inside_the_body(real_ct: Path, patient: str) -> None:
    series = only_series(real_ct / "patients" / patient)
    torch.manual_seed(1)
    net = build(Architecture("rrdb", 2, nf=16, nb=4, gc=8))
    assert isinstance(net, RRDBNet)
    start_as_bilinear(net)
    for part in net.RRDB_trunk.parameters():
        part.data *= 3
    net.conv_last.weight.data += 0.02 * torch.randn(net.conv_last.weight.shape)
    pixels = read_slice(series, len(series.slices) // 2)
    box = body_roi(pixels.hu)
    assert box is not None
    assert (box.bottom - box.top) * (box.right - box.left) < 0.9 * pixels.hu.size
    resolver = SliceSuperResolver(TorchEngine(net), 2, DEFAULT_RANGE)
    skipping = resolver(pixels).hu
    whole = replace(resolver, skip_air=False)(pixels).hu
    plain = enlarge(torch.from_numpy(pixels.hu)[None, None], 2, "bilinear")[0, 0].numpy()
    inside = tissue_blocks(pixels.hu).repeat(16, axis=0).repeat(16, axis=1)
    assert np.abs(whole - plain)[inside].mean() > 1  # the network does something
    assert np.abs(whole - skipping)[inside].max() <= 1
