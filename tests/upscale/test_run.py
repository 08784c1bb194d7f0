"""Series of known HU through a network that interpolates: what must come out, where, and under which name."""

import gzip
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLSLossless, JPEGLSNearLossless

from ctsr.checkpoint import Model, load_model
from ctsr.checkpoint.model_lookup import BUNDLED
from ctsr.errors import MissingInputError, UsageError
from ctsr.exams import read_slice, read_volume
from ctsr.infer import EngineRequest
from ctsr.infer.engine import computes_bf16, is_installed
from ctsr.upscale import UpscaleOptions, writers
from ctsr.upscale.run import Report, upscale, watch
from tests.made.ct import body, ct_slice, enhanced, padded, save, save_series, slices, write
from tests.made.exams import only_series, save_patient
from tests.made.listener import Listener
from tests.needs import needs
from tests.oracles import dciodvfy_errors

T = TypeVar("T")


def run(source: Path, out: Path, model: Model, listener: Listener | None = None, **options: object) -> Report:
    settings = UpscaleOptions(**({"picture": False} | options))  # pyright: ignore[reportArgumentType]
    return upscale(source, out, model, EngineRequest("torch"), settings, progress=listener or Listener())


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """One series of three slices."""
    folder = tmp_path / "exams" / "P1" / "s"
    save_series(folder, [body(48, seed=i, smooth=1.5, texture=60) for i in range(3)])
    return folder


@pytest.fixture
def root(series: Path) -> Path:
    """Two patients; the second has two series."""
    folder = series.parent.parent
    save_series(folder / "P2" / "a", [body(40)] * 2, series="1.2.5", SeriesDescription="CHEST LUNG")
    save_series(folder / "P2" / "b", [body(40)] * 2, series="1.2.6", SeriesDescription="ABDOMEN")
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_series_becomes_a_finer_one_on_the_same_field_of_view(series: Path, tmp_path: Path, bilinear: Model) -> None:
    report = run(series, tmp_path / "out", bilinear)
    assert report.failed == 0
    before, after = only_series(series), only_series(tmp_path / "out")
    assert (after.rows, after.columns) == (96, 96)
    assert after.pixel_spacing == (0.35, 0.35)
    assert len(after.slices) == 3
    for i, (old, new) in enumerate(zip(before.slices, after.slices, strict=True)):
        assert new.position[2] == old.position[2]
        assert new.instance_number == i + 1
        # A mark in the middle of LR pixel (10, 20) lies between HR pixels 20|21 and 40|41.
        assert after.plane(i).position(20.5, 40.5) == pytest.approx(before.plane(i).position(10, 20), abs=1e-6)
        assert after.plane(i).position(-0.5, -0.5) == pytest.approx(before.plane(i).position(-0.5, -0.5), abs=1e-6)


def test_hu_are_those_of_the_network(series: Path, tmp_path: Path, bilinear: Model) -> None:
    run(series, tmp_path / "out", bilinear)
    before, after = only_series(series), only_series(tmp_path / "out")
    for i in range(3):
        old, new = read_slice(before, i).hu, read_slice(after, i).hu
        # A bilinear network keeps the mean of every 2×2 block of HR pixels near the LR pixel's neighbourhood.
        assert abs(new.mean() - old.mean()) < 1
        assert abs(new[40:56, 40:56].mean() - old[20:28, 20:28].mean()) < 1


def test_headers_say_what_was_done_by_which_model_and_that_it_is_not_for_diagnosis(
    series: Path, tmp_path: Path, bilinear: Model
) -> None:
    run(series, tmp_path / "out", bilinear)
    source, new = dcmread(series / "IM1"), dcmread(tmp_path / "out" / "0001.dcm")
    assert list(new.ImageType)[:3] == ["DERIVED", "SECONDARY", "AXIAL"]
    assert new.SeriesInstanceUID != source.SeriesInstanceUID
    assert new.SOPInstanceUID != source.SOPInstanceUID
    for kept in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "ImageOrientationPatient"):
        assert new[kept].value == source[kept].value
    assert "Not for diagnosis" in new.DerivationDescription
    (item,) = new.SourceImageSequence
    assert item.ReferencedSOPInstanceUID == source.SOPInstanceUID
    (program,) = new.ContributingEquipmentSequence
    assert bilinear.sha256[:16] in program.ManufacturerModelName
    assert new.SeriesDescription == "CHEST [SR x2]"
    assert dciodvfy_errors(tmp_path / "out" / "0001.dcm") <= dciodvfy_errors(series / "IM1")


def test_a_model_that_comes_with_ctsr_is_named_as_such_in_the_header(series: Path, tmp_path: Path) -> None:
    run(series, tmp_path / "out", load_model(BUNDLED["ctsr-x2"].file), slices=":1")
    (program,) = dcmread(tmp_path / "out" / "0001.dcm").ContributingEquipmentSequence
    assert program.ManufacturerModelName.startswith("ctsr-x2 sha256:")


def odd_series(folder: Path, **changed: np.ndarray) -> Path:
    """Seven slices, some of them changed: `IM3=…`."""
    images = [body(96, seed=seed, texture=20) for seed in range(7)]
    save_series(folder, [changed.get(f"IM{i}", hu) for i, hu in enumerate(images, start=1)])
    return folder


def test_one_slice_of_other_values_is_refused_unless_told_otherwise(tmp_path: Path, bilinear: Model) -> None:
    source = odd_series(tmp_path / "P1", IM5=2 * body(96, seed=4))
    report = run(source, tmp_path / "out", bilinear)
    assert report.failed == 1
    assert "IM5: unlike its series, its values do not look like HU: " in report.outcomes[0].error
    assert "\n" not in report.outcomes[0].error
    assert "`assume_hu`" in report.outcomes[0].error
    assert not (tmp_path / "out").exists()
    report = run(source, tmp_path / "out", bilinear, assume_hu=True)
    assert report.failed == 0
    assert any("IM5: unlike its series" in warning for warning in report.outcomes[0].warnings)


def test_one_slice_cut_off_is_warned_about_also_in_run_json(tmp_path: Path, bilinear: Model) -> None:
    source = odd_series(tmp_path / "P1", IM4=body(96, seed=3).clip(-1000, 20))
    (outcome,) = run(source, tmp_path / "out", bilinear).outcomes
    (warning,) = (warning for warning in outcome.warnings if "unlike its series" in warning)
    assert "IM4" in warning
    assert "have its highest value, 20, and the slices beside it go on above: it is cut off" in warning
    assert warning in json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]
    (sound,) = run(odd_series(tmp_path / "P2"), tmp_path / "other", bilinear).outcomes
    assert not [warning for warning in sound.warnings if "unlike its series" in warning]


def test_bf16_is_checked_on_the_series_and_named_in_run_json(tmp_path: Path) -> None:
    """Used where the check passes; a processor without bf16 computes in fp32 and says so."""
    needs(is_installed(), "pip install '.[fast]' to run this")
    generator = load_model(BUNDLED["ctsr-x4"].file)
    save_series(tmp_path / "P1", [body(96, seed=3)] * 3)
    out = tmp_path / "out"
    listener = Listener()
    asked = EngineRequest("openvino", "bf16", cache=tmp_path / "cache")
    report = upscale(tmp_path / "P1", out, generator, asked, UpscaleOptions(picture=False), progress=listener)
    assert report.failed == 0
    said = next(note for note in listener.notes if note.startswith("bf16"))
    used = json.loads((out / "run.json").read_text())["engine"]
    assert used == ("openvino bf16" if said.endswith("in use") else "openvino fp32")
    assert ("loses" in said) == computes_bf16()
    with pytest.raises(UsageError, match="bf16` is checked on the series of one run"):
        watch(tmp_path / "P1", out, generator, asked, UpscaleOptions(), settle_s=1.0)


def test_run_json_says_how_the_result_was_made(series: Path, tmp_path: Path, bilinear: Model) -> None:
    run(series, tmp_path / "out", bilinear)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["model"]["sha256"] == bilinear.sha256
    assert record["engine"] == "torch fp32"
    assert record["result"]["pixel_spacing_mm"] == [0.35, 0.35]
    seconds = record["seconds"]
    assert set(seconds) == {"tune", "read", "enlarge", "network", "write", "wall"}
    assert 0 < seconds["network"] <= seconds["enlarge"] <= seconds["wall"]
    assert record["versions"]["ctsr"]


def test_a_picture_shows_the_middle_slice_before_and_after(series: Path, tmp_path: Path, bilinear: Model) -> None:
    run(series, tmp_path / "out", bilinear, picture=True)
    shown = plt.imread(tmp_path / "out" / "preview.png")[..., :3]
    for third in np.split(shown[:, : shown.shape[1] // 3 * 3], 3, axis=1):
        assert third[third.shape[0] // 6 : third.shape[0] // 2].std() > 0.1  # a body in each of the three panels


def test_a_picture_that_is_not_wanted_is_not_there(series: Path, tmp_path: Path, bilinear: Model) -> None:
    out = tmp_path / "out" / "volume.nii.gz"
    run(series, out, bilinear, picture=True)
    assert (out.parent / "volume.nii.gz.preview.png").is_file()
    run(series, out, bilinear, picture=False, overwrite=True)
    assert {path.name for path in out.parent.iterdir()} == {"volume.nii.gz", "volume.nii.gz.run.json"}


def test_implants_and_padding_come_through(tmp_path: Path, bilinear: Model) -> None:
    hu = body(64, texture=5)
    hu[28:36, 28:36] = 3000
    hu = padded(hu, -1024)
    save(ct_slice(np.where(hu == -1024, -1024, hu)), tmp_path / "in" / "s")
    listener = Listener()
    report = run(tmp_path / "in", tmp_path / "out", bilinear, listener)
    before, after = only_series(tmp_path / "in"), only_series(tmp_path / "out")
    old, new = read_slice(before, 0), read_slice(after, 0)
    assert (new.hu[60:68, 60:68] == 3000).all()
    assert old.padding is not None
    assert new.padding is not None
    assert np.array_equal(new.padding, old.padding.repeat(2, 0).repeat(2, 1))
    assert any("above 2000 HU" in warning for warning in report.outcomes[0].warnings)


def test_a_target_spacing_is_reached_exactly(series: Path, tmp_path: Path, bilinear: Model) -> None:
    run(series, tmp_path / "out", bilinear, target_spacing=0.4)
    before, after = only_series(series), only_series(tmp_path / "out")
    assert after.pixel_spacing == (0.4, 0.4)
    assert after.rows == round(48 * 0.7 / 0.4)
    middle = ((after.rows - 1) / 2, (after.columns - 1) / 2)
    assert after.plane(0).position(*middle) == pytest.approx(before.plane(0).position(23.5, 23.5), abs=1e-6)


def test_several_series_go_below_their_patients(root: Path, tmp_path: Path, bilinear: Model) -> None:
    report = run(root, tmp_path / "out", bilinear)
    assert [len(outcome.warnings) for outcome in report.outcomes] == [0, 0, 0]
    assert {path.parent.name for path in (tmp_path / "out").rglob("run.json")} == {
        outcome.output.name for outcome in report.outcomes
    }
    assert {outcome.output.parent.name for outcome in report.outcomes} == {"P1", "P2"}
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 7


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"only": "chest*"}, 5),
        ({"only": "*lung"}, 2),
        ({"only": "P2"}, 4),
        ({"series": "1.2.6"}, 2),
        ({"slices": "1:"}, 4),
    ],
)
def test_what_was_asked_for_is_made_and_nothing_else(
    root: Path, tmp_path: Path, bilinear: Model, options: dict[str, str], count: int
) -> None:
    run(root, tmp_path / "out", bilinear, **options)
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == count


def test_nothing_that_fits_is_an_error_that_names_what_is_there(root: Path, tmp_path: Path, bilinear: Model) -> None:
    with pytest.raises(MissingInputError, match="CHEST LUNG"):
        run(root, tmp_path / "out", bilinear, only="head*")


def test_a_rerun_keeps_what_is_there_and_makes_what_is_missing(root: Path, tmp_path: Path, bilinear: Model) -> None:
    out = tmp_path / "out"
    first = run(root, out, bilinear)
    before = snapshot(out)
    lost = first.outcomes[1].output
    (lost / "0001.dcm").unlink()
    (lost / "run.json").unlink()
    (lost / "0002.dcm").unlink()
    again = run(root, out, bilinear)
    assert [outcome.kept for outcome in again.outcomes] == [True, False, True]
    after = snapshot(out)
    record = str((lost / "run.json").relative_to(out))  # it holds the time it took
    assert {name: data for name, data in after.items() if name != record} == {
        name: data for name, data in before.items() if name != record
    }


def test_a_result_is_only_replaced_when_that_was_asked_for(series: Path, tmp_path: Path, bilinear: Model) -> None:
    out = tmp_path / "out"
    run(series, out, bilinear)
    before = snapshot(out)
    with pytest.raises(UsageError, match="`overwrite=True`"):
        run(series, out, bilinear, target_spacing=0.5)
    assert snapshot(out) == before
    assert run(series, out, bilinear, target_spacing=0.5, overwrite=True).failed == 0
    assert only_series(out).pixel_spacing == (0.5, 0.5)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("first", [{}, {"hu_offset": -50.0}])
@pytest.mark.parametrize("other", [{"hu_offset": -60.0}, {"hu_scale": 1.01}, {"names": False}])
def test_a_result_of_other_hu_or_with_names_is_not_taken_for_the_one_that_was_asked_for(
    series: Path, tmp_path: Path, bilinear: Model, first: dict[str, float], other: dict[str, float]
) -> None:
    run(series, tmp_path / "out", bilinear, **first)
    assert run(series, tmp_path / "out", bilinear, **first).outcomes[0].kept
    with pytest.raises(UsageError, match="created from different input or settings"):
        run(series, tmp_path / "out", bilinear, **other)
    run(series, tmp_path / "out", bilinear, overwrite=True, **other)
    assert run(series, tmp_path / "out", bilinear, **other).outcomes[0].kept


def uids(folder: Path) -> set[str]:
    headers = [dcmread(path, stop_before_pixels=True) for path in sorted(folder.glob("*.dcm"))]
    return {str(ds[name].value) for ds in headers for name in ("SOPInstanceUID", "SeriesInstanceUID")}


def test_a_series_that_has_grown_shares_no_uid_with_what_was_made_of_it_before(
    series: Path, tmp_path: Path, bilinear: Model
) -> None:
    late = (series / "IM1").rename(tmp_path / "late")
    run(series, tmp_path / "before", bilinear)
    late.rename(series / "IM1")
    run(series, tmp_path / "after", bilinear)
    run(series, tmp_path / "again", bilinear)
    assert len(uids(tmp_path / "after")) == 4
    assert uids(tmp_path / "before").isdisjoint(uids(tmp_path / "after"))
    assert uids(tmp_path / "again") == uids(tmp_path / "after")


def test_windows_go_where_hu_were_corrected_since_nobody_knows_what_they_were_meant_for(
    tmp_path: Path, bilinear: Model
) -> None:
    images = [body(48, seed=i, smooth=1.5, texture=60) for i in range(2)]
    shown = {"WindowCenter": 1064, "WindowCenterWidthExplanation": "SOFT"}
    save_series(tmp_path / "s", images, RescaleIntercept=0, **shown)
    run(tmp_path / "s", tmp_path / "corrected", bilinear, hu_offset=-1024.0)
    save_series(tmp_path / "t", images, WindowCenterWidthExplanation="SOFT")
    run(tmp_path / "t", tmp_path / "read", bilinear)
    corrected, read = (dcmread(tmp_path / name / "0001.dcm") for name in ("corrected", "read"))
    names = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")
    assert [name for name in names if name in corrected] == []
    assert [read[name].value for name in names] == [40, 400, "SOFT"]


def test_windows_of_an_enhanced_objects_frames_go_with_them(tmp_path: Path, bilinear: Model) -> None:
    source, window = enhanced(slices([body(48, seed=i) for i in range(2)], RescaleIntercept=0)), Dataset()
    del source.WindowCenter, source.WindowWidth
    window.WindowCenter, window.WindowWidth = 1064, 400
    source.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = [window]
    save(source, tmp_path / "s" / "E")
    run(tmp_path / "s", tmp_path / "corrected", bilinear, hu_offset=-1024.0)
    assert "WindowCenter" not in dcmread(tmp_path / "corrected" / "0001.dcm")


@pytest.mark.parametrize("said", ["", "00"])
def test_what_was_lost_before_is_said_also_where_only_the_transfer_syntax_did(
    tmp_path: Path, bilinear: Model, said: str
) -> None:
    for syntax, options in ((JPEGLSNearLossless, {"jls_error": 2}), (JPEGLSLossless, {})):
        (source,) = slices([body(48, texture=60)])
        source.compress(syntax, generate_instance_uid=False, **options)
        source.LossyImageCompression = said
        save(source, tmp_path / syntax.name / "IM1")
        run(tmp_path / syntax.name, tmp_path / f"{syntax.name} out", bilinear)
    lossy, lossless = (
        dcmread(tmp_path / f"{syntax.name} out" / "0001.dcm") for syntax in (JPEGLSNearLossless, JPEGLSLossless)
    )
    assert lossy.LossyImageCompression == "01"
    assert lossless.get("LossyImageCompression") == said


def test_padding_of_a_volume_has_one_value_in_all_its_slices(tmp_path: Path, bilinear: Model) -> None:
    images = [padded(body(48, seed=i), -1200) for i in range(3)]
    images[1][20:26, 20:26] = -2900  # streaks beside metal
    save_series(tmp_path / "s", images, PixelRepresentation=1, RescaleIntercept=0)
    for path, hu in zip(sorted((tmp_path / "s").iterdir()), images, strict=True):
        ds = dcmread(path)
        ds.PixelData = hu.astype("<i2").tobytes()
        save(ds, path)
    assert run(tmp_path / "s", tmp_path / "sr.nii", bilinear, format="nifti").failed == 0
    voxels = np.asarray(nib.load(tmp_path / "sr.nii").dataobj)
    corners = voxels[[0, -1]][:, [0, -1]]
    assert np.unique(corners).tolist() == [-2048]
    assert -3200 < voxels.min() < -2700
    again = read_volume(only_series(tmp_path / "sr.nii"))
    assert again.padding is not None
    assert again.padding[:, 0, 0].all()
    assert not again.padding[:, 40:52, 40:52].any()


def test_the_picture_has_the_shape_of_its_largest_image(
    tmp_path: Path, bilinear: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_series(tmp_path / "s", [body(48, seed=i) for i in range(2)], spacing=(0.9, 0.6))
    aspects: list[float] = []
    draw = writers.comparison_figure

    def kept(*args: Any, **options: Any) -> Any:
        aspects.append(options["pixel_aspect"])
        return draw(*args, **options)

    monkeypatch.setattr(writers, "comparison_figure", kept)
    run(tmp_path / "s", tmp_path / "as scanned", bilinear, picture=True)
    run(tmp_path / "s", tmp_path / "square", bilinear, picture=True, target_spacing=0.25)
    assert aspects == [pytest.approx(1.5), pytest.approx(1.0)]


def test_a_models_name_is_written_in_letters_that_every_character_set_has(
    tmp_path: Path, series: Path, bilinear_path: Path
) -> None:
    shutil.copy(bilinear_path, tmp_path / "best.pth")
    model = load_model(tmp_path / "best.pth")
    assert model.meta is not None
    run(series, tmp_path / "out", replace(model, meta=replace(model.meta, experiment="модель ä")))
    header = dcmread(tmp_path / "out" / "0001.dcm")
    assert header.ContributingEquipmentSequence[-1].ManufacturerModelName.startswith("_______")
    assert header.DerivationDescription.isascii()


def test_a_folder_of_somebody_else_is_never_replaced(series: Path, tmp_path: Path, bilinear: Model) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a result of"):
        run(series, out, bilinear, overwrite=True)
    assert (out / "thesis.txt").read_text() == "mine"


def test_not_even_overwrite_takes_what_is_none_of_ours(series: Path, tmp_path: Path, bilinear: Model) -> None:
    alien, mixed = tmp_path / "alien", tmp_path / "mixed"
    alien.mkdir()
    (alien / "run.json").write_text('{"wandb": 1}')
    (alien / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not a result of `ctsr upscale`"):
        run(series, alien, bilinear, overwrite=True)
    run(series, mixed, bilinear)
    (mixed / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"holds notes\.txt beside a result"):
        run(series, mixed, bilinear, overwrite=True)
    assert (alien / "thesis.tex").is_file()
    assert (mixed / "notes.txt").is_file()


def test_a_result_that_was_damaged_is_not_taken_for_whole(series: Path, tmp_path: Path, bilinear: Model) -> None:
    run(series, tmp_path / "out", bilinear)
    (tmp_path / "out" / "0002.dcm").write_bytes(b"")
    with pytest.raises(UsageError, match="`overwrite=True` replaces it"):
        run(series, tmp_path / "out", bilinear)
    run(series, tmp_path / "out", bilinear, overwrite=True)
    assert len(only_series(tmp_path / "out").slices) == 3


def test_a_series_whose_files_vanish_while_they_are_written_is_no_result(
    series: Path, tmp_path: Path, bilinear: Model
) -> None:
    class Cleaner(Listener):
        def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
            for item in items:
                if what.startswith("Upscaling"):
                    for part in tmp_path.glob(".out.*"):
                        shutil.rmtree(part)
                yield item

    report = run(series, tmp_path / "out", bilinear, Cleaner())
    assert "vanished while they were written" in report.outcomes[0].error
    assert not (tmp_path / "out").exists()


def test_two_runs_whose_names_begin_alike_leave_each_other_alone(series: Path, tmp_path: Path, bilinear: Model) -> None:
    class Beside(Listener):
        def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
            for number, item in enumerate(items):
                if what.startswith("Upscaling") and number == 1:
                    run(series, tmp_path / "o", bilinear)
                yield item

    assert not run(series, tmp_path / "o.sharp", bilinear, Beside()).failed
    assert [len(only_series(tmp_path / name).slices) for name in ("o", "o.sharp")] == [3, 3]


def test_a_root_that_has_grown_is_not_mixed_with_the_result_of_one_series(
    series: Path, tmp_path: Path, bilinear: Model
) -> None:
    run(series.parent.parent, tmp_path / "out", bilinear)
    save_series(series.parent.parent / "P2" / "a", [body(40)] * 2, series="1.2.5")
    with pytest.raises(UsageError, match="the result of a single series, and the source holds several"):
        run(series.parent.parent, tmp_path / "out", bilinear)


def test_a_file_in_the_place_of_the_result_is_told_before_anything_is_computed(
    series: Path, tmp_path: Path, bilinear: Model
) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        run(series, tmp_path / "out", bilinear, overwrite=True)


def test_slices_that_are_left_out_take_their_defects_with_them(tmp_path: Path, bilinear: Model) -> None:
    for i, dataset in enumerate(slices([body(32)] * 6)):
        if i != 3:
            save(dataset, tmp_path / "in" / f"IM{i}")
    whole = run(tmp_path / "in", tmp_path / "all.nii.gz", bilinear, format="nifti")
    assert "slices are missing" in whole.outcomes[0].error
    assert not run(tmp_path / "in", tmp_path / "low.nii.gz", bilinear, format="nifti", slices=":3").failed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"series": "9.9"}, "no series fits what was asked for; there are P1: CHEST 1.2"),
        ({"slices": "100:200"}, "`slices` 100:200 leaves none: the series has 3 slices, counted from 0"),
        ({"target_spacing": 20.0}, "leaves 2 × 2 pixels"),
        ({"max_memory": float("nan")}, "`max_memory` must be above 0"),
    ],
)
def test_what_leaves_nothing_to_do_is_told_with_what_there_is(
    series: Path, tmp_path: Path, bilinear: Model, options: dict[str, object], message: str
) -> None:
    with pytest.raises((MissingInputError, UsageError), match=re.escape(message)):
        run(series.parent.parent, tmp_path / "out", bilinear, **options)


def test_an_infinite_voxel_is_nowhere_and_stops_nobody(series: Path, tmp_path: Path, bilinear: Model) -> None:
    values = np.full((16, 16, 2), -50, np.float32)
    values[3, 4, 0] = np.inf
    nib.save(nib.Nifti1Image(values, np.diag([-0.7, -0.7, 1, 1])), tmp_path / "odd.nii.gz")
    report = run(tmp_path / "odd.nii.gz", tmp_path / "out.nii.gz", bilinear)
    assert not report.failed
    assert np.isfinite(np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj)).all()


def test_the_result_may_not_lie_in_the_source(series: Path, bilinear: Model) -> None:
    with pytest.raises(UsageError, match="are inside one another"):
        run(series, series / "out", bilinear)


def test_patients_whose_names_differ_in_a_blank_have_folders_of_their_own(tmp_path: Path, bilinear: Model) -> None:
    volume = np.stack([body(24, seed=i) for i in range(2)]).transpose(2, 1, 0)
    long = "x" * 240
    for name in ("a b", "a_b", long):
        (tmp_path / "in" / name).mkdir(parents=True)
        nib.save(nib.Nifti1Image(volume, np.diag([-0.7, -0.7, 2.5, 1])), tmp_path / "in" / name / "ct.nii")
    report = run(tmp_path / "in", tmp_path / "out", bilinear)
    assert not report.failed
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert len(folders) == 3
    assert "a_b" in folders
    assert any(re.fullmatch("a_b_[0-9a-f]{8}", name) for name in folders)
    assert any(re.fullmatch("x{40}_[0-9a-f]{8}", name) for name in folders)


def test_one_bad_patient_does_not_stop_the_others(root: Path, tmp_path: Path, bilinear: Model) -> None:
    bad = dcmread(root / "P1" / "s" / "IM2")
    bad.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    bad["PixelData"].is_undefined_length = True
    bad.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0nope\xfe\xff\xdd\xe0\0\0\0\0"
    save(bad, root / "P1" / "s" / "IM2")
    report = run(root, tmp_path / "out", bilinear)
    assert report.failed == 1
    assert "IM2" in report.outcomes[0].error
    assert not report.outcomes[0].output.exists()
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 4
    assert list((tmp_path / "out").rglob(".*")) == []


def save_nifti(path: Path, size: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(
        nib.Nifti1Image(np.stack([body(size, seed=i) for i in range(3)]).transpose(2, 1, 0), np.diag([-1, -1, 2, 1])),
        path,
    )
    return path


def only_failure(report: Report, source: Path) -> str:
    """The line of the one series that was refused, where all others were made."""
    failed = {
        job.series.path: outcome.error
        for job, outcome in zip(report.jobs, report.outcomes, strict=True)
        if outcome.error
    }
    made = [job.output for job, outcome in zip(report.jobs, report.outcomes, strict=True) if not outcome.error]
    assert list(failed) == [source]
    assert all((output / "run.json").is_file() for output in made)
    assert len(made) == len(set(made)) == len(report.jobs) - 1
    return failed[source]


def test_two_files_of_one_name_are_one_result_and_one_line_and_stop_nobody(
    root: Path, tmp_path: Path, bilinear: Model
) -> None:
    packed = save_nifti(root / "P3" / "ct.nii.gz")
    (root / "P3" / "ct.nii").write_bytes(gzip.decompress(packed.read_bytes()))
    for _ in range(2):  # the second run keeps what the first one made
        assert "two results would be called" in only_failure(run(root, tmp_path / "out", bilinear), packed)


def test_a_volume_that_cannot_be_dicom_is_refused_alone(root: Path, tmp_path: Path, bilinear: Model) -> None:
    volume = save_nifti(root / "P3" / "ct.nii.gz")
    report = run(root, tmp_path / "out", bilinear, format="dicom")
    assert "no patient or study to make DICOM of" in only_failure(report, volume)


@pytest.mark.parametrize("small_first", [True, False])
def test_a_series_that_leaves_next_to_nothing_is_refused_alone(
    small_first: bool, series: Path, tmp_path: Path, bilinear: Model
) -> None:
    small = save_nifti(series.parent.parent / ("P0" if small_first else "P3") / "ct.nii.gz", size=16)
    line = only_failure(run(series.parent.parent, tmp_path / "out", bilinear, target_spacing=3.0), small)
    assert line == f"{small}: `target_spacing` 3 leaves 5 × 5 pixels, too few for a result"
    with pytest.raises(UsageError, match="leaves 5 × 5 pixels"):
        run(small, tmp_path / "alone", bilinear, target_spacing=3.0)


def test_originals_are_not_touched(series: Path, tmp_path: Path, bilinear: Model) -> None:
    before = snapshot(series)
    run(series, tmp_path / "out", bilinear)
    assert snapshot(series) == before


def test_frames_of_a_multi_frame_object_become_slices(tmp_path: Path, bilinear: Model) -> None:
    save(enhanced(slices([body(40, seed=i) for i in range(3)])), tmp_path / "in" / "multi.dcm")
    run(tmp_path / "in", tmp_path / "out", bilinear)
    after = only_series(tmp_path / "out")
    assert len(after.slices) == 3
    assert dcmread(tmp_path / "out" / "0003.dcm").SourceImageSequence[0].ReferencedFrameNumber == 3


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii", "out"])
def test_dicom_becomes_nifti_of_the_same_hu_and_places(
    series: Path, tmp_path: Path, bilinear: Model, name: str
) -> None:
    run(series, tmp_path / "dicom", bilinear)
    run(series, tmp_path / name, bilinear, format="nifti")
    path = tmp_path / name if "." in name else next((tmp_path / name).glob("*.nii.gz"))
    record = tmp_path / f"{name}.run.json" if "." in name else tmp_path / name / "run.json"
    assert json.loads(record.read_text())["options"]["format"] == "nifti"
    dicom, nifti = (read_volume(only_series(place)) for place in (tmp_path / "dicom", path))
    assert np.array_equal(dicom.hu, nifti.hu)
    assert np.allclose(dicom.grid.affine, nifti.grid.affine, atol=1e-4)


def test_nifti_in_is_nifti_out_and_cannot_be_dicom(tmp_path: Path, bilinear: Model) -> None:
    volume = np.stack([body(40, seed=i) for i in range(3)]).transpose(2, 1, 0)
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(volume, np.diag([-0.7, -0.7, 2.5, 1])), path)
    run(path, tmp_path / "sr.nii.gz", bilinear)
    before, after = read_volume(only_series(path)), read_volume(only_series(tmp_path / "sr.nii.gz"))
    assert after.hu.shape == (3, 80, 80)
    assert after.grid.position((1, 20.5, 40.5)) == pytest.approx(before.grid.position((1, 10, 20)), abs=1e-4)
    with pytest.raises(UsageError, match="a volume has no patient or study"):
        run(path, tmp_path / "dicom", bilinear, format="dicom")


def test_a_series_unlike_the_training_is_warned_about(tmp_path: Path, bilinear: Model) -> None:
    save_series(tmp_path / "in", [body(40)], spacing=(1.4, 1.4), ConvolutionKernel="B70f", SliceThickness=8)
    (outcome,) = run(tmp_path / "in", tmp_path / "out", bilinear).outcomes
    assert [warning.split(":")[0] for warning in outcome.warnings] == [
        "pixel spacing 1.4 mm",
        "slice thickness 8 mm",
        "reconstruction kernel B70f",
    ]
    unknown = replace(bilinear, meta=None)
    assert unknown.hu_range.low == -1000


def test_a_run_that_is_interrupted_leaves_no_result(series: Path, tmp_path: Path, bilinear: Model) -> None:
    stopping = Listener(stop_in="Upscaling s", stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        run(series, tmp_path / "out", bilinear, stopping)
    assert [path.name for path in tmp_path.iterdir()] == ["exams"]


def test_tiles_bound_the_memory_and_their_error_is_told(series: Path, tmp_path: Path, bilinear: Model) -> None:
    run(series, tmp_path / "whole", bilinear, skip_air=False)
    report = run(series, tmp_path / "tiles", bilinear, skip_air=False, max_memory=1e-4)
    assert "in tiles of" in report.jobs[0].engine
    assert any("at a seam it differs by at most" in warning for warning in report.outcomes[0].warnings)
    whole, tiles = (read_volume(only_series(tmp_path / name)).hu for name in ("whole", "tiles"))
    assert np.abs(whole - tiles).max() <= 1
    assert (whole == tiles).mean() > 0.99


def test_results_without_names_say_nowhere_whose_they_are(root: Path, tmp_path: Path, bilinear: Model) -> None:
    out = tmp_path / "out"
    assert run(root, out, bilinear, names=False, compress="jpegls", slices=":1", only="P1").failed == 0
    [record] = out.rglob("run.json")
    assert "P1" not in record.read_text(encoding="utf-8")
    assert str(root) not in record.read_text(encoding="utf-8")
    assert json.loads(record.read_text(encoding="utf-8"))["note"] == "Not for diagnosis"
    assert "P1" not in {part for path in out.rglob("*") for part in path.relative_to(out).parts}
    [written] = out.rglob("*.dcm")
    assert dcmread(written).file_meta.TransferSyntaxUID == JPEGLSLossless


def test_anonymized_results_are_one_series_without_the_patient(series: Path, tmp_path: Path, bilinear: Model) -> None:
    pytest.importorskip("dicomanonymizer")
    out = tmp_path / "out"
    assert run(series, out, bilinear, anonymize=True).failed == 0
    source, found = dcmread(next(series.iterdir())), [dcmread(path) for path in sorted(out.glob("*.dcm"))]
    assert len({ds.SeriesInstanceUID for ds in found}) == len({ds.StudyInstanceUID for ds in found}) == 1
    assert found[0].StudyInstanceUID != source.StudyInstanceUID
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    for secret in (source.PatientID, source.StudyInstanceUID, source.SeriesInstanceUID, str(series)):
        assert len(str(secret)) < 4 or str(secret).encode() not in everything, secret
    assert run(series, out, bilinear, anonymize=True).outcomes[0].kept


def test_what_is_for_dicom_alone_is_said_of_a_result_in_nifti(series: Path, tmp_path: Path, bilinear: Model) -> None:
    (outcome,) = run(series, tmp_path / "out.nii.gz", bilinear, compress="rle").outcomes
    assert "`compress`: no effect on a result in NIfTI" in outcome.warnings
    assert not any("`enhanced`" in warning for warning in outcome.warnings)


@pytest.mark.parametrize("keyword", ["AcquisitionDateTime", "ContentTime"])
def test_anonymized_phases_do_not_say_when_they_were_scanned(tmp_path: Path, bilinear: Model, keyword: str) -> None:
    pytest.importorskip("dicomanonymizer")
    made = slices([body(48, seed=i) for i in range(6)])
    moments = ("20210304101530", "20210304101745.5") if keyword.endswith("DateTime") else ("101530", "101745.5")
    places = [ds.ImagePositionPatient for ds in made]
    for number, ds in enumerate(made):
        ds.ImagePositionPatient = places[number // 2]
        setattr(ds, keyword, moments[number % 2])
    write(tmp_path / "exams/P1/s", made)
    report = run(tmp_path / "exams", tmp_path / "out", bilinear, anonymize=True)
    assert [outcome.error for outcome in report.outcomes] == ["", ""]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert [moment for moment in moments if moment.encode() in everything] == []
    (first, _) = (tmp_path / "out").rglob("0001.dcm")
    assert dcmread(first).DerivationDescription.endswith(f"; {keyword}"), "why it is a series of its own"


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_result_that_fell_apart_is_found_when_it_is_read_back(
    keyword: str, series: Path, tmp_path: Path, bilinear: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = writers.derive_slice

    def other_each_time(*args: Any, **words: Any) -> Dataset:
        derived = made(*args, **words)
        setattr(derived, keyword, f"1.2.3.{words['instance_number']}")
        return derived

    monkeypatch.setattr(writers, "derive_slice", other_each_time)
    (outcome,) = run(series, tmp_path / "out", bilinear).outcomes
    assert f"values of {keyword}, those of the source 1" in outcome.error
    assert not (tmp_path / "out").exists()


def test_a_series_in_which_each_image_has_a_frame_of_reference_of_its_own_is_made_as_it_is(
    series: Path, tmp_path: Path, bilinear: Model
) -> None:
    paths = sorted(series.iterdir())
    for i, path in enumerate(paths):
        ds = dcmread(path)
        ds.FrameOfReferenceUID = f"1.2.3.9.{i}"
        ds.save_as(path)
    assert run(series, tmp_path / "out", bilinear).failed == 0
    found = {str(dcmread(path).FrameOfReferenceUID) for path in (tmp_path / "out").glob("*.dcm")}
    assert found == {f"1.2.3.9.{i}" for i in range(len(paths))}


def test_two_studies_under_one_series_uid_make_two_results(tmp_path: Path, bilinear: Model) -> None:
    for study in ("1.2.8.1", "1.2.8.2"):
        images = [body(40, seed=i) for i in range(3)]
        save_series(tmp_path / "exams" / "P" / study, images, StudyInstanceUID=study, FrameOfReferenceUID=f"{study}.9")
    assert run(tmp_path / "exams", tmp_path / "out", bilinear).failed == 0
    made: dict[Path, set[str]] = {}
    for path in (tmp_path / "out").rglob("*.dcm"):
        made.setdefault(path.parent, set()).add(str(dcmread(path).StudyInstanceUID))
    assert sorted(map(sorted, made.values())) == [["1.2.8.1"], ["1.2.8.2"]]


def test_a_nifti_result_says_that_it_is_not_for_diagnosis(series: Path, tmp_path: Path, bilinear: Model) -> None:
    assert run(series, tmp_path / "sr.nii", bilinear, format="nifti").failed == 0
    assert b"Not for diagnosis" in nib.load(tmp_path / "sr.nii").header["descrip"].item()


def test_the_room_that_is_reckoned_with_is_that_of_series_that_are_not_refused(
    tmp_path: Path, bilinear: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that needs more than the disk has, and is refused anyway, stopped all others."""
    save_patient(tmp_path / "exams", "anna", slices=3, size=32)
    for path in save_patient(tmp_path / "exams", "bert", slices=3, size=256, seed=1):
        dataset = dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.001, 0
        dataset.save_as(path)
    listener = Listener()
    usage = shutil.disk_usage(tmp_path)._replace(free=200_000)
    monkeypatch.setattr("ctsr.files.shutil.disk_usage", lambda _path: usage)
    report = upscale(
        tmp_path / "exams",
        tmp_path / "out",
        bilinear,
        EngineRequest("torch"),
        UpscaleOptions(picture=False),
        progress=listener,
    )
    assert [bool(outcome.error) for outcome in report.outcomes] == [False, True]
    assert [note for note in listener.notes if note.startswith("3 slices to write")]
