"""NIfTI in, DICOM out: a series of the same examination lends its headers."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset, dcmread

import ctsr
from ctsr.checkpoint import Model
from ctsr.cli.main import main
from ctsr.errors import SeriesError, UsageError
from ctsr.exams import read_volume
from ctsr.infer import EngineRequest
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.run import Report, upscale
from ctsr.volume import Grid, Volume
from tests.made.ct import body, save_series
from tests.made.exams import only_series
from tests.made.listener import Listener
from tests.oracles import dciodvfy_errors

SLICES = 6

KERNEL = (
    "reconstruction kernel {}: the model was trained on STANDARD; a sharper or softer one may come out noisier or "
    "smoother: compare the result with bicubic interpolation"
)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    images = [body(40, seed=i, smooth=1.0, texture=60) for i in range(SLICES)]
    save_series(tmp_path / "exams" / "P1" / "s", images, SliceThickness=5, step=4.0)
    return tmp_path / "exams" / "P1" / "s"


@pytest.fixture
def volume(series: Path, tmp_path: Path) -> Path:
    """The same series as NIfTI, as another program would write it."""
    return Path(ctsr.write_series(read_volume(only_series(series)), tmp_path / "ct.nii.gz"))


def run(source: Path, out: Path, model: Model, reference: Path | None, **options: object) -> Report:
    settings = UpscaleOptions(**({"picture": False} | options))  # pyright: ignore[reportArgumentType]
    return upscale(source, out, model, EngineRequest("torch"), settings, reference=reference, progress=Listener())


def made(folder: Path) -> list[Dataset]:
    return [dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def test_the_result_is_that_of_the_series_itself_under_its_patient_and_study(
    series: Path, volume: Path, bilinear: Model, tmp_path: Path
) -> None:
    assert run(volume, tmp_path / "out", bilinear, series).failed == 0
    assert run(series, tmp_path / "dicom", bilinear, None).failed == 0
    ours, theirs = read_volume(only_series(tmp_path / "out")), read_volume(only_series(tmp_path / "dicom"))
    np.testing.assert_array_equal(ours.hu, theirs.hu)
    np.testing.assert_allclose(ours.grid.affine, theirs.grid.affine, atol=1e-6)
    sources = {ds.SOPInstanceUID: ds for ds in map(dcmread, series.iterdir())}
    for ds in made(tmp_path / "out"):
        [origin] = ds.SourceImageSequence
        source = sources[origin.ReferencedSOPInstanceUID]
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "KVP", "SliceThickness"):
            assert ds[keyword].value == source[keyword].value
        assert ds.ImagePositionPatient[2] == source.ImagePositionPatient[2]
        assert ds.SeriesInstanceUID != source.SeriesInstanceUID
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["reference"]["series_uid"] == "1.2.3.4"
    assert not [line for line in record["warnings"] if "reference" in line]


def test_it_is_as_valid_as_the_reference(series: Path, volume: Path, bilinear: Model, tmp_path: Path) -> None:
    run(volume, tmp_path / "out", bilinear, series)
    known = dciodvfy_errors(next(series.iterdir()))
    assert all(dciodvfy_errors(path) <= known for path in (tmp_path / "out").glob("*.dcm"))


def test_a_volume_on_another_grid_keeps_its_own_and_says_so(series: Path, bilinear: Model, tmp_path: Path) -> None:
    original = read_volume(only_series(series))
    x, y, z = original.grid.origin
    grid = replace(original.grid, shape=(11, 30, 32), spacing=(2.0, 0.7, 0.7), origin=(x + 3.5, y + 2.8, z + 1.0))
    rows, columns = slice(4, 34), slice(5, 37)
    hu = np.repeat(original.hu[:, rows, columns], 2, axis=0)[:11]
    path = Path(ctsr.write_series(Volume(hu, grid), tmp_path / "part.nii"))
    report = run(path, tmp_path / "out", bilinear, series)
    assert report.failed == 0
    assert "its grid of 30 × 32 × 11 voxels" in " ".join(report.outcomes[0].warnings)
    slices = made(tmp_path / "out")
    assert len({ds.SOPInstanceUID for ds in slices}) == 11
    assert {float(ds.SliceThickness) for ds in slices} == {2.0}
    result = only_series(tmp_path / "out")
    np.testing.assert_allclose([s.position[2] for s in result.slices], z + 1 + 2 * np.arange(11), atol=1e-6)
    nearest = [int(ds.SourceImageSequence[0].ReferencedSOPInstanceUID.rsplit(".", 1)[1]) for ds in slices]
    assert nearest == [1 + round((1 + 2 * i) / 4) for i in range(11)]


def test_another_volume_is_another_series_and_the_same_is_kept(
    series: Path, volume: Path, bilinear: Model, tmp_path: Path
) -> None:
    run(volume, tmp_path / "out", bilinear, series)
    assert [outcome.kept for outcome in run(volume, tmp_path / "out", bilinear, series).outcomes] == [True]
    image = nib.load(volume)
    other = np.asarray(image.dataobj).astype(np.int16)
    other[20, 20, 3] += 50
    nib.save(nib.Nifti1Image(other, image.affine), tmp_path / "other.nii.gz")
    run(tmp_path / "other.nii.gz", tmp_path / "other", bilinear, series)
    first, second = made(tmp_path / "out")[0], made(tmp_path / "other")[0]
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


@pytest.mark.parametrize("turned", [False, True])
def test_a_volume_that_lies_elsewhere_is_refused(series: Path, bilinear: Model, tmp_path: Path, turned: bool) -> None:
    x, y, z = read_volume(only_series(series)).grid.origin
    place = (x, y, z) if turned else (x, y, z + 500)
    tilt = np.radians(15 if turned else 0)
    directions = ((0, -np.sin(tilt), np.cos(tilt)), (0, np.cos(tilt), np.sin(tilt)), (1, 0, 0))
    grid = Grid((SLICES, 40, 40), (4.0, 0.7, 0.7), place, directions)  # pyright: ignore[reportArgumentType]
    hu = np.stack([body(40, seed=i) for i in range(SLICES)]).astype(np.float32)
    path = Path(ctsr.write_series(Volume(hu, grid), tmp_path / "elsewhere.nii"))
    with pytest.raises(SeriesError, match="not parallel" if turned else "another patient or another examination"):
        run(path, tmp_path / "out", bilinear, series)
    assert not (tmp_path / "out").exists()


def test_what_lends_no_headers_is_refused(series: Path, volume: Path, bilinear: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="headers of its own; leave out `reference`"):
        run(series, tmp_path / "out", bilinear, series)
    with pytest.raises(UsageError, match="no patient or study; give a DICOM series"):
        run(volume, tmp_path / "out", bilinear, volume)
    with pytest.raises(UsageError, match="for results in DICOM"):
        run(volume, tmp_path / "out.nii", bilinear, series)
    with pytest.raises(UsageError, match="as `reference`"):
        run(volume, tmp_path / "out", bilinear, None, format="dicom")
    save_series(series.parent / "t", [body(40)], series="1.2.3.5")
    with pytest.raises(UsageError, match="holds 2 series; give the folder of one"):
        run(volume, tmp_path / "out", bilinear, series.parent)


def test_slices_between_and_anonymity_hold_with_a_reference(series: Path, volume: Path, tmp_path: Path) -> None:
    out = tmp_path / "thin"
    words = ("--slice_spacing", "1", "--slice_profile", "5", "--reference", str(series), "--engine", "torch")
    assert main(["upscale", str(volume), str(out), *words, "--anonymize"]) == 0
    result = only_series(out)
    assert (len(result.slices), result.slice_step, result.slice_thickness) == (21, 1.0, 1.0)
    assert all(ds.PatientIdentityRemoved == "YES" and ds.PatientID != "P1" for ds in made(out))
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({str(ds[keyword].value) for ds in made(out)}) == 1, keyword


def test_the_kernel_that_the_model_is_asked_about_is_that_of_the_reference(
    series: Path, volume: Path, bilinear: Model, tmp_path: Path
) -> None:
    def kernels(report: Report) -> list[str]:
        (outcome,) = report.outcomes
        return [line for line in outcome.warnings if "kernel" in line]

    assert kernels(run(volume, tmp_path / "alone", bilinear, None)) == [KERNEL.format("not named")]
    assert kernels(run(volume, tmp_path / "out", bilinear, series)) == []
    for path in series.iterdir():
        ds = dcmread(path)
        ds.ConvolutionKernel = "B70f"
        ds.save_as(path)
    assert kernels(run(volume, tmp_path / "sharp", bilinear, series)) == [KERNEL.format("B70f")]
    assert json.loads((tmp_path / "sharp" / "run.json").read_text())["source"]["kernel"] == "B70f"


def test_headers_are_lent_by_dicom_in_a_folder_that_is_called_like_a_volume(
    series: Path, volume: Path, bilinear: Model, tmp_path: Path
) -> None:
    lender = series.rename(series.with_name("ct.nii"))
    assert run(volume, tmp_path / "out", bilinear, lender).failed == 0
    assert {ds.StudyInstanceUID for ds in made(tmp_path / "out")} == {dcmread(lender / "IM1").StudyInstanceUID}
    ctsr.write_series(read_volume(only_series(lender)), tmp_path / "copy", like=lender)
    assert len(made(tmp_path / "copy")) == SLICES


AROUND = {
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "on the left side": (0.0, 1.0, 0.0, -1.0, 0.0, 0.0),
    "from above": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "a little turned": (0.9988, 0.049, 0.0, -0.049, 0.9988, 0.0),
}


def marked_series(folder: Path, orientation: tuple[float, ...]) -> Path:
    """Slices with something dense to one side, so that it shows which way round they are."""
    images = [body(40, seed=i, smooth=1.0, texture=60) for i in range(SLICES)]
    for image in images:
        image[12:16, 24:32] = 2600  # as metal, which may be the highest value many times
    save_series(folder, images, step=4.0, SliceThickness=5, ImageOrientationPatient=list(orientation))
    return folder


def place_of_the_mark(folder: Path) -> np.ndarray:
    """Its middle in mm, by what the headers of the middle slice say."""
    ds = sorted(map(dcmread, folder.iterdir()), key=lambda ds: ds.ImagePositionPatient[2])[SLICES // 2]
    columns, rows = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    marked = np.argwhere(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) > 1000)
    row, column = marked.mean(axis=0) * np.array(ds.PixelSpacing, float)
    return np.array(ds.ImagePositionPatient, float) + row * rows + column * columns


@pytest.mark.parametrize("orientation", AROUND.values(), ids=AROUND.keys())
def test_a_result_lies_as_its_volume_does_however_the_reference_lies(
    bilinear: Model, tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    source = marked_series(tmp_path / "exams" / "P1" / "s", orientation)
    volume = Path(ctsr.write_series(read_volume(only_series(source)), tmp_path / "ct.nii.gz"))
    assert run(volume, tmp_path / "out", bilinear, source).failed == 0
    (tmp_path / "out" / "run.json").unlink()
    np.testing.assert_allclose(place_of_the_mark(tmp_path / "out"), place_of_the_mark(source), atol=0.2)


@pytest.mark.parametrize("orientation", AROUND.values(), ids=AROUND.keys())
def test_a_volume_that_is_written_like_a_series_lies_where_it_did(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    source = marked_series(tmp_path / "s", orientation)
    ctsr.write_series(read_volume(only_series(source)), tmp_path / "ct.nii")
    ctsr.write_series(ctsr.read_volume(tmp_path / "ct.nii"), tmp_path / "out", like=source)
    np.testing.assert_allclose(place_of_the_mark(tmp_path / "out"), place_of_the_mark(source), atol=1e-3)
    sources = {ds.SOPInstanceUID: ds for ds in map(dcmread, source.iterdir())}
    for ds in made(tmp_path / "out"):
        origin = sources[ds.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert ds.ImagePositionPatient[2] == pytest.approx(origin.ImagePositionPatient[2])
        assert ds.InstanceNumber == origin.InstanceNumber
