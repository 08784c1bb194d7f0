"""Slices between slices on disk: DICOM and NIfTI in and out, and what is refused."""

import json
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from pydicom import dcmread

from ctsr.checkpoint import Model, load_model
from ctsr.cli.main import main
from ctsr.errors import MissingInputError, SeriesError, UsageError
from ctsr.exams import read_volume
from ctsr.infer.selection import EngineRequest
from ctsr.upscale import between as upscale_between
from ctsr.upscale.between import pick_models
from ctsr.upscale.options import UpscaleOptions
from ctsr.upscale.run import Report, upscale
from tests.made.ct import body, ct_slice, save_series, write
from tests.made.exams import only_series
from tests.made.listener import Listener
from tests.made.model import save_slice_model
from tests.oracles import dciodvfy_errors
from tests.upscale.conftest import CARD


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network between slices with a few random weights."""
    return load_model(save_slice_model(tmp_path_factory.mktemp("between") / "best.pth", card=CARD))


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Eight slices of 5 mm, 4 mm apart."""
    folder = tmp_path / "exams" / "P1" / "s"
    images = [body(40, seed=i, smooth=1.5, texture=60) for i in range(8)]
    save_series(folder, images, step=4.0, SliceThickness=5, SpacingBetweenSlices=4)
    return folder


def run(source: Path, out: Path, between: Model, model: Model | None = None, **options: object) -> Report:
    settings = UpscaleOptions(**({"picture": False, "slice_spacing": 1.0} | options))  # pyright: ignore[reportArgumentType]
    return upscale(
        source, out, model or between, EngineRequest("torch"), settings, between=between, progress=Listener()
    )


def test_a_thick_series_becomes_a_thin_one(series: Path, tmp_path: Path, between: Model) -> None:
    report = run(series, tmp_path / "out", between, picture=True)
    assert report.failed == 0
    before, after = only_series(series), only_series(tmp_path / "out")
    assert (after.rows, after.columns, after.pixel_spacing) == (40, 40, before.pixel_spacing)
    assert (after.slice_thickness, after.slice_step) == (1.0, 1.0)
    z = [header.position[2] for header in after.slices]
    np.testing.assert_allclose(z, np.arange(30.0, 58.5), atol=1e-6)
    assert (tmp_path / "out" / "preview.png").is_file()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["result"]["num_slices"] == 29
    assert record["between"]["grid"]["profile"]["thickness"] == 5
    assert record["disagreement_hu"] > 0


def test_headers_say_where_a_thin_slice_lies_and_what_it_was_made_of(
    series: Path, tmp_path: Path, between: Model
) -> None:
    run(series, tmp_path / "out", between)
    new = dcmread(tmp_path / "out" / "0006.dcm")  # at 5 mm: between the second and the third source slice
    assert (new.SliceThickness, new.SpacingBetweenSlices, new.SliceLocation) == (1, 1, 35)
    assert [item.ReferencedSOPInstanceUID for item in new.SourceImageSequence] == [f"1.2.3.4.{i}" for i in (1, 2, 3, 4)]
    assert "Super-resolution between slices from 5 mm slices 4 mm apart to 1 mm" in new.DerivationDescription
    assert "in plane" not in new.DerivationDescription
    assert "Not for diagnosis" in new.DerivationDescription
    assert new.SeriesDescription == "CHEST [SR z 1 mm]"
    assert list(new.ImageType)[:3] == ["DERIVED", "SECONDARY", "AXIAL"]
    files = sorted((tmp_path / "out").glob("*.dcm"))
    uids = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files}
    assert len(uids) == len(files) == 29


def test_dciodvfy_finds_nothing_wrong(series: Path, tmp_path: Path, between: Model) -> None:
    known = dciodvfy_errors(series / "IM1")
    run(series, tmp_path / "out", between)
    assert dciodvfy_errors(tmp_path / "out" / "0006.dcm") <= known


def test_a_result_is_kept_and_one_made_otherwise_is_not_replaced_unasked(
    series: Path, tmp_path: Path, between: Model
) -> None:
    run(series, tmp_path / "out", between)
    assert run(series, tmp_path / "out", between).outcomes[0].kept
    with pytest.raises(UsageError, match="overwrite"):
        run(series, tmp_path / "out", between, slice_spacing=2.0)
    assert run(series, tmp_path / "out", between, slice_spacing=2.0, overwrite=True).outcomes[0].num_slices == 15


def test_in_plane_comes_first_where_a_model_for_it_is_named(
    series: Path, tmp_path: Path, between: Model, bilinear: Model
) -> None:
    run(series, tmp_path / "out", between, bilinear, slice_spacing=2.0)
    after = only_series(tmp_path / "out")
    assert (after.rows, after.columns, after.pixel_spacing, after.slice_step) == (80, 80, (0.35, 0.35), 2.0)
    new = dcmread(tmp_path / "out" / "0002.dcm")
    assert new.SeriesDescription == "CHEST [SR x2 z 2 mm]"


def test_isotropic_resamples_in_plane_too(series: Path, tmp_path: Path, between: Model) -> None:
    run(series, tmp_path / "out", between, slice_spacing=None, isotropic=1.4)
    after = only_series(tmp_path / "out")
    assert (after.rows, after.pixel_spacing) == (20, (1.4, 1.4))
    assert after.slice_step == pytest.approx(1.4)


def test_nifti_comes_out_on_the_thin_grid(series: Path, tmp_path: Path, between: Model) -> None:
    run(series, tmp_path / "thin.nii.gz", between, format="nifti")
    image = cast("Nifti1Image", nib.load(tmp_path / "thin.nii.gz"))
    assert image.shape == (40, 40, 29)
    run(series, tmp_path / "dicom", between)
    volume = read_volume(only_series(tmp_path / "dicom"))
    there = only_series(tmp_path / "thin.nii.gz")
    np.testing.assert_allclose(read_volume(there).hu, volume.hu, atol=1e-3)
    np.testing.assert_allclose(there.slices[3].position, volume.grid.position((3, 0, 0)), atol=1e-3)


def test_contradicting_headers_are_said(series: Path, tmp_path: Path, between: Model) -> None:
    for path in series.iterdir():
        ds = dcmread(path)
        ds.SpacingBetweenSlices = 5
        ds.save_as(path)
    (outcome,) = run(series, tmp_path / "out", between).outcomes
    assert any(
        "SpacingBetweenSlices says 5 mm, positions say 4 mm and are believed" in line for line in outcome.warnings
    )


def test_a_series_with_a_gap_is_refused_and_others_are_made(series: Path, tmp_path: Path, between: Model) -> None:
    root = series.parent.parent
    heights = (0, 4, 8, 20, 24)
    made = [
        ct_slice(body(40), position=(-100, -120, z), uid=f"1.9.{z + 1}", series_uid="1.9", number=i + 1)
        for i, z in enumerate(heights)
    ]
    write(root / "P2" / "gap", made)
    report = run(root, tmp_path / "out", between)
    assert [bool(outcome.error) for outcome in report.outcomes] == [False, True]
    with pytest.raises(SeriesError, match="Export the series again"):
        run(root / "P2" / "gap", tmp_path / "alone", between)


def test_the_models_that_are_meant(between: Model, bilinear: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, not_wanted = UpscaleOptions(slice_spacing=1.0), UpscaleOptions()
    names = {"ctsr-x2": bilinear, "ctsr-z": between}
    monkeypatch.setattr(upscale_between, "SLICE_MODELS", names)
    load = names.__getitem__
    assert pick_models(None, None, not_wanted, load).between is None
    alone = pick_models(None, None, wanted, load)
    assert alone.model is alone.between is between
    both = pick_models(bilinear, None, wanted, load)
    assert (both.model, both.between) == (bilinear, between)
    assert pick_models(between, None, wanted, load).model is between
    with pytest.raises(UsageError, match="goes with"):
        pick_models(None, between, not_wanted, load)
    monkeypatch.setattr(upscale_between, "SLICE_MODELS", {})
    with pytest.raises(MissingInputError, match="no model between slices comes with ctsr"):
        pick_models(None, None, wanted, load)


def test_the_command_takes_the_model_that_comes_with_ctsr(
    series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["upscale", str(series), str(tmp_path / "out"), "--slice_spacing", "2", "--engine", "torch"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "model: ctsr-z, which comes with ctsr" in said.err
    assert "8 → 15" in said.out
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 15


@pytest.mark.parametrize(
    "options",
    [
        {"slice_spacing": 0.01},
        {"isotropic": 100.0},
        {"isotropic": 1.0, "slice_spacing": 1.0},
        {"isotropic": 1.0, "target_spacing": 1.0},
        {"slice_profile": "5"},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        UpscaleOptions(**options)  # pyright: ignore[reportArgumentType]
