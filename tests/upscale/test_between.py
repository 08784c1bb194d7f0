"""Slices between slices on disk: DICOM and NIfTI in and out, and what is refused."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from nibabel.nifti1 import Nifti1Image
from pydicom import Dataset, dcmread

from ctsr.checkpoint import Model
from ctsr.cli.main import main
from ctsr.errors import MissingInputError, SeriesError, UsageError
from ctsr.exams import read_volume
from ctsr.figures import Panel
from ctsr.infer import EngineRequest, TorchEngine
from ctsr.infer.engine import computes_bf16
from ctsr.upscale import UpscaleOptions, writers
from ctsr.upscale import between as upscale_between
from ctsr.upscale.between import pick_models
from ctsr.upscale.run import Report, upscale
from tests.made.ct import Edit, body, ct_slice, save, save_series, save_thick_series, slices, write
from tests.made.exams import only_series
from tests.made.listener import Listener
from tests.needs import needs
from tests.oracles import dciodvfy_errors


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return save_thick_series(tmp_path / "exams" / "P1" / "s")


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


def test_slices_between_those_of_a_series_that_has_grown_have_uids_of_their_own(
    series: Path, tmp_path: Path, between: Model
) -> None:
    late = (series / "IM1").rename(tmp_path / "late")
    run(series, tmp_path / "before", between)
    late.rename(series / "IM1")
    run(series, tmp_path / "after", between)
    before, after = (
        {header.sop_instance_uid for header in only_series(tmp_path / name).slices} for name in ("before", "after")
    )
    assert (len(before), len(after)) == (25, 29)
    assert before.isdisjoint(after)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, -1, 0)])
def test_the_head_is_up_in_the_picture_whichever_way_slices_are_ordered(
    tmp_path: Path, between: Model, monkeypatch: pytest.MonkeyPatch, orientation: tuple[float, ...]
) -> None:
    # From the feet to the head, the body gets brighter.
    images = [body(40, seed=i, smooth=1.5, texture=60) + np.where(body(40) > -500, 40 * i, 0) for i in range(6)]
    save_series(tmp_path / "s", images, step=4.0, SliceThickness=5, SpacingBetweenSlices=4, orientation=orientation)
    shown: list[Panel] = []
    draw = writers.comparison_figure

    def kept(panels: list[Panel], *args: Any, **options: Any) -> Figure:
        shown.extend(panels)
        return draw(panels, *args, **options)

    monkeypatch.setattr(writers, "comparison_figure", kept)
    assert run(tmp_path / "s", tmp_path / "out", between, picture=True, assume_hu=True).failed == 0
    assert len(shown) == 3
    for panel in shown:
        assert panel.hu[0, 15:25].mean() > panel.hu[-1, 15:25].mean() + 100, panel.title


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


@pytest.mark.parametrize("in_plane", [False, True])
def test_implants_are_said_to_be_interpolated(in_plane: bool, tmp_path: Path, between: Model, bilinear: Model) -> None:
    images = [body(40, seed=i, smooth=1.5, texture=60) for i in range(8)]
    for image in images[2:5]:
        image[18:22, 18:22] = 2900
    save_series(tmp_path / "s", images, step=4.0, SliceThickness=5)
    report = run(tmp_path / "s", tmp_path / "out", between, bilinear if in_plane else None, slice_spacing=2.0)
    said = [line for line in report.outcomes[0].warnings if "above" in line]
    assert said == ["3 slices with values above 2000 HU: interpolated there"]
    assert said[0] in json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]


def test_noise_that_cannot_be_measured_is_said_where_it_was_to_go(tmp_path: Path, between: Model) -> None:
    """Of lung alone: the network between slices was told no noise without a word."""
    save_series(tmp_path / "s", [np.full((40, 40), -850 + i, np.int16) for i in range(8)], step=4.0, SliceThickness=5)
    told = "its noise cannot be measured (fewer than 8 windows of soft tissue"
    settings = UpscaleOptions(slice_spacing=2.0, denoise=1.0)
    for denoise in (None, 0.0, 1.0):
        made = run(tmp_path / "s", tmp_path / str(denoise), between, slice_spacing=2.0, denoise=denoise, assume_hu=True)
        said = [line for line in made.outcomes[0].warnings if line.startswith(told)]
        assert len(said) == (denoise == 1)
    heard = Listener()
    volume = read_volume(only_series(tmp_path / "s"), assume_hu=True)
    upscale_between.slices_between(volume, between, TorchEngine(between.net), settings, heard)
    assert len([note for note in heard.notes if told in note]) == 1


def test_nifti_comes_out_on_the_thin_grid(series: Path, tmp_path: Path, between: Model) -> None:
    run(series, tmp_path / "thin.nii.gz", between, format="nifti")
    image = cast("Nifti1Image", nib.load(tmp_path / "thin.nii.gz"))
    assert image.shape == (40, 40, 29)
    run(series, tmp_path / "dicom", between)
    volume = read_volume(only_series(tmp_path / "dicom"))
    there = only_series(tmp_path / "thin.nii.gz")
    np.testing.assert_allclose(read_volume(there).hu, volume.hu, atol=1e-3)
    np.testing.assert_allclose(there.slices[3].position, volume.grid.position((3, 0, 0)), atol=1e-3)


@pytest.mark.parametrize("name", ["out", "out.nii.gz"])
def test_what_the_two_kinds_of_planes_disagree_about_is_a_volume(
    name: str, series: Path, tmp_path: Path, between: Model
) -> None:
    out = tmp_path / name
    run(series, out, between)
    place = tmp_path / ("out/uncertainty.nii.gz" if name == "out" else "out.nii.gz.uncertainty.nii.gz")
    assert not place.exists()
    run(series, out, between, uncertainty=True, overwrite=True)
    apart = cast("Nifti1Image", nib.load(place))
    assert apart.shape == (40, 40, 29)
    record = json.loads((place.parent / place.name.replace("uncertainty.nii.gz", "run.json")).read_text())
    values = np.asarray(apart.dataobj)
    assert values.min() >= 0
    # The record's mean also counts the margins of slabs and leaves out what lies outside of the body.
    assert values[values > 0].mean() == pytest.approx(record["disagreement_hu"], rel=0.25)
    volume = read_volume(only_series(series))
    np.testing.assert_allclose(np.abs(apart.affine[:3, 3]), np.abs(volume.grid.origin), atol=1e-3)
    assert apart.header.get_zooms() == pytest.approx((0.7, 0.7, 1.0))
    assert run(series, out, between, uncertainty=True).outcomes[0].kept


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
    assert "8 → 15 (4 → 2 mm)" in said.out
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 15


def test_quantize_refuses_a_model_between_slices_in_one_line(
    between: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(between.path)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "`upscale --precision int8` does it" in line


@pytest.mark.parametrize("precision", ["int8", "bf16"])
@pytest.mark.parametrize("in_plane", [(), ("--model_path", "ctsr-x2")])
def test_other_number_formats_are_checked_between_slices_as_in_plane(
    precision: str,
    in_plane: tuple[str, ...],
    series: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    needs(find_spec("openvino") is not None, "install ctsr[fast] to run this")
    needs(precision == "int8" or computes_bf16(), "this processor has no bf16")
    monkeypatch.setenv("CTSR_CACHE", str(tmp_path / "cache"))
    made: dict[str, np.ndarray] = {}
    for name in ("fp32", precision):
        words = [str(series), str(tmp_path / name), "--slice_spacing", "1", "--precision", name, *in_plane]
        assert main(["upscale", *words]) == 0
        made[name] = read_volume(only_series(tmp_path / name)).hu
    said = [line for line in capsys.readouterr().err.splitlines() if f"{precision} loses" in line]
    assert len(said) == 1 + len(in_plane) // 2  # each network is checked, and once
    record = json.loads((tmp_path / precision / "run.json").read_text())
    used = record["between"]["engine"]
    assert used.startswith(f"openvino {precision if 'in use' in said[-1] else 'fp32'}")
    apart = made[precision] - made["fp32"]
    assert np.abs(apart).max() <= 100
    assert abs(apart.mean()) < 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"slice_spacing": 0.01},
        {"isotropic": 100.0},
        {"isotropic": 1.0, "slice_spacing": 1.0},
        {"isotropic": 1.0, "target_spacing": 1.0},
        {"slice_profile": "5"},
        {"uncertainty": True},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        UpscaleOptions(**options)  # pyright: ignore[reportArgumentType]


def test_what_tells_who_the_patient_is_stays_out_of_an_anonymized_result(
    tmp_path: Path, between: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTSR_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "exams" / "Doe_Jane" / "chest"
    images = [body(40, seed=i, smooth=1.5, texture=60) for i in range(6)]
    paths = save_series(folder, images, step=4.0, SliceThickness=5, ImageComments="Jane", StationName="Doe7")
    for path in paths[3:]:
        ds = dcmread(path)
        ds.RescaleIntercept = -1023  # defects are said with the folder's name
        ds.save_as(path)
    drawn: list[str] = []
    figure = writers.comparison_figure
    monkeypatch.setattr(
        writers, "comparison_figure", lambda *args, title="", **rest: drawn.append(title) or figure(*args, **rest)
    )
    report = run(tmp_path / "exams", tmp_path / "out", between, picture=True, anonymize=True)
    assert report.failed == 0
    (record,) = (tmp_path / "out").rglob("run.json")
    shown = [str(record.relative_to(tmp_path / "out")), record.read_text(), *drawn]
    files = sorted(record.parent.glob("*.dcm"))
    shown += [str(dcmread(path)) for path in files]
    assert len(files) == 21
    sources = {str(dcmread(path).SOPInstanceUID) for path in paths}
    for text in shown:
        assert not any(word in text for word in ("Doe", "Jane", "P1", "1.2.3.4", *sources))
    assert json.loads(record.read_text())["warnings"]
    made = [dcmread(path) for path in files]
    assert len({ds.SOPInstanceUID for ds in made}) == 21
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({str(ds[keyword].value) for ds in made}) == 1, keyword
    run(tmp_path / "exams", tmp_path / "one", between, anonymize=True, enhanced=True)
    (path,) = (tmp_path / "one").rglob("enhanced.dcm")
    assert dcmread(path).StudyInstanceUID == made[0].StudyInstanceUID
    named = {str(item.ReferencedSOPInstanceUID) for ds in made for item in ds.SourceImageSequence}
    assert len(named) == 6  # hashes: they still say which were made of one image


def test_a_run_that_was_stopped_leaves_nothing_and_is_made_whole_by_the_next(
    series: Path, tmp_path: Path, between: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = UpscaleOptions(picture=False, slice_spacing=1.0)

    def made(out: Path, listener: Listener) -> Report:
        return upscale(series, out, between, EngineRequest("torch"), settings, between=between, progress=listener)

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "out", Listener(stop_in="Planes across the slices of s", stop_after=90))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert made(tmp_path / "out", Listener()).failed == 0
    made(tmp_path / "whole", Listener())
    for path in sorted((tmp_path / "whole").glob("*.dcm")):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert made(tmp_path / "out", Listener()).outcomes[0].kept


def tilted(ds: Dataset, index: int) -> None:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, y + 1.2 * index, z]


def uneven(ds: Dataset, index: int) -> None:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, y, z + (1.3 if index % 2 else 0)]


def twice(ds: Dataset, index: int) -> None:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, y, z - (4 if index == 5 else 0)]


@pytest.mark.parametrize("option", ["slice_spacing", "isotropic"])
def test_messages_name_the_flag_that_was_given(option: str, series: Path, tmp_path: Path, between: Model) -> None:
    thin, one = tmp_path / "exams" / "P2", tmp_path / "exams" / "P3"
    save_series(thin, [body(40)] * 3, step=1.0, series="1.2.3.5")
    save_series(one, [body(40)], series="1.2.3.6")
    report = run(tmp_path / "exams", tmp_path / "out", between, **({"slice_spacing": None} | {option: 3.0}))
    _, *refused = report.outcomes
    assert [outcome.error for outcome in refused] == [
        f"{thin}: the slices lie 1 mm apart already: 3 mm makes nothing finer; choose a smaller `{option}`",
        f"{one}: a single slice, with none to put others between; leave out `{option}`",
    ]
    (made,) = run(series, tmp_path / "near", between, **({"slice_spacing": None} | {option: 0.7})).outcomes
    assert any(f"choose another `{option}`, or pass" in line for line in made.warnings)


def test_what_is_odd_about_a_series_is_said_once(tmp_path: Path, between: Model) -> None:
    paths = save_series(tmp_path / "s", [body(40, seed=i, smooth=1.5, texture=60) for i in range(6)], step=4.0)
    for path in paths[3:]:
        ds = dcmread(path)
        ds.RescaleIntercept = -1023
        ds.save_as(path)
    (outcome,) = run(tmp_path / "s", tmp_path / "out", between).outcomes
    assert [line for line in outcome.warnings if "rescale" in line.casefold()]
    assert len(outcome.warnings) == len(set(outcome.warnings))


@pytest.mark.parametrize(("edit", "said"), [(tilted, "tilt"), (uneven, "step"), (twice, "several images at z = 46 mm")])
def test_series_without_places_between_their_slices_are_refused_in_one_line(
    edit: Edit, said: str, tmp_path: Path, between: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [body(40, seed=i) for i in range(8)]
    for ds in slices(images, edit, step=4.0):
        save(ds, tmp_path / "s" / f"IM{ds.InstanceNumber}")
    words = ["upscale", str(tmp_path / "s"), str(tmp_path / "out"), "--slice_spacing", "1"]
    assert main([*words, "--slice_model", str(between.path), "--engine", "torch"]) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert "Without --slice_spacing it is made finer within slices" in line
    assert str(tmp_path / "s") in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("thickness", "said"),
    [
        (None, "no SliceThickness: slices are taken to be 4 mm thick"),
        (1, "slices of 1 mm lie 4 mm apart: what lies in the gaps was never measured"),
        (0, "no SliceThickness"),
    ],
)
def test_thickness_that_is_absent_or_contradicts_positions_is_said(
    thickness: float | None, said: str, tmp_path: Path, between: Model
) -> None:
    images = [body(40, seed=i) for i in range(6)]
    save_series(tmp_path / "s", images, step=4.0, SliceThickness=thickness)
    (outcome,) = run(tmp_path / "s", tmp_path / "out", between).outcomes
    assert not outcome.error
    assert any(said in warning for warning in outcome.warnings)
    (outcome,) = run(tmp_path / "s", tmp_path / "told", between, slice_profile="4").outcomes
    assert not any(said in warning for warning in outcome.warnings)


@pytest.mark.parametrize("name", ["ct.nii", "x.mha", "x.nrrd"])
def test_dicom_in_a_folder_that_is_called_like_a_volume_becomes_dicom(
    series: Path, tmp_path: Path, between: Model, name: str
) -> None:
    folder = series.rename(series.with_name(name))
    for out, asked in (("out", {}), ("asked", {"format": "dicom"})):
        assert run(folder, tmp_path / out, between, **asked).failed == 0
        assert len(list((tmp_path / out).glob("*.dcm"))) == 29
        assert not list((tmp_path / out).glob("*.nii.gz"))
