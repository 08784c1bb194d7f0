"""One file in place of many: Legacy Converted Enhanced CT."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, LegacyConvertedEnhancedCTImageStorage

from ctsr.checkpoint import Model
from ctsr.cli.main import main
from ctsr.dicom.encode import SYNTAXES
from ctsr.dicom.variants import save_enhanced, size_problem
from ctsr.errors import ReadError, SeriesError, UsageError
from ctsr.exams import read_volume
from ctsr.infer import EngineRequest
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.run import Report, upscale
from ctsr.volume import Volume
from tests.made.ct import body, padded, save, save_series, slices
from tests.made.exams import only_series
from tests.made.listener import Listener
from tests.made.model import save_slice_model
from tests.oracles import dciodvfy_errors

SLICES = 5


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Slices with padding but for one that has none."""
    images = [body(40, seed=i, smooth=1.0, texture=60) for i in range(SLICES)]
    images = [images[0], *(padded(image, -3000) for image in images[1:])]
    save_series(tmp_path / "exams" / "s", images, SliceThickness=5, RescaleIntercept=-3000)
    for path in (tmp_path / "exams" / "s").iterdir():
        ds = dcmread(path)
        ds.PixelData = (ds.pixel_array.astype(np.int32) - 1024 + 3000).astype("<u2").tobytes()
        ds.save_as(path)
    return tmp_path / "exams" / "s"


def run(source: Path, out: Path, model: Model, **options: Any) -> Report:
    settings = UpscaleOptions(**({"picture": False} | options))
    return upscale(source, out, model, EngineRequest("torch"), settings, progress=Listener())


def volume_of(folder: Path) -> Volume:
    return read_volume(only_series(folder))


@pytest.mark.parametrize("compression", ["none", *SYNTAXES])
def test_it_holds_the_bits_and_the_places_of_the_slices_in_every_transfer_syntax(
    series: Path, bilinear: Model, tmp_path: Path, compression: str
) -> None:
    run(series, tmp_path / "classic", bilinear, compress=compression)
    run(series, tmp_path / "one", bilinear, compress=compression, enhanced=True)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["enhanced.dcm", "run.json"]
    ours, theirs = volume_of(tmp_path / "one"), volume_of(tmp_path / "classic")
    np.testing.assert_array_equal(ours.hu, theirs.hu)
    np.testing.assert_array_equal(ours.padding, theirs.padding)
    assert ours.grid == theirs.grid
    made = dcmread(tmp_path / "one" / "enhanced.dcm")
    syntax = UID(ExplicitVRLittleEndian) if compression == "none" else SYNTAXES[compression]
    assert (made.SOPClassUID, made.file_meta.TransferSyntaxUID) == (LegacyConvertedEnhancedCTImageStorage, syntax)


def test_other_readers_see_the_same_volume(series: Path, bilinear: Model, tmp_path: Path) -> None:
    from highdicom import imread

    run(series, tmp_path / "one", bilinear, enhanced=True)
    ours = volume_of(tmp_path / "one")
    # Both go from above.
    image = SimpleITK.ReadImage(tmp_path / "one" / "enhanced.dcm")
    theirs = SimpleITK.GetArrayFromImage(image)[::-1]
    assert ours.padding is not None
    np.testing.assert_array_equal(np.where(ours.padding, -2048, ours.hu), theirs)
    lowest = image.TransformIndexToPhysicalPoint((0, 0, SLICES - 1))
    np.testing.assert_allclose(lowest, ours.grid.origin, atol=1e-6)
    np.testing.assert_allclose(image.GetSpacing(), ours.grid.spacing[::-1], atol=1e-6)
    volume = imread(tmp_path / "one" / "enhanced.dcm").get_volume(apply_real_world_transform=False)
    np.testing.assert_allclose(volume.affine[:3, 3], image.GetOrigin(), atol=1e-6)


def test_it_is_as_valid_as_the_slices_and_says_what_it_was_made_of(
    series: Path, bilinear: Model, tmp_path: Path
) -> None:
    run(series, tmp_path / "classic", bilinear)
    run(series, tmp_path / "one", bilinear, enhanced=True)
    path = tmp_path / "one" / "enhanced.dcm"
    assert dciodvfy_errors(path) - dciodvfy_errors(tmp_path / "classic" / "0001.dcm") == set()
    made, classic = dcmread(path), [dcmread(path) for path in (tmp_path / "classic").glob("*.dcm")]
    assert (made.PatientID, made.StudyInstanceUID, made.SeriesDescription) == ("P1", "1.2.3", "CHEST [SR x2]")
    assert made.SeriesInstanceUID == json.loads((tmp_path / "one" / "run.json").read_text())["result"]["series_uid"]
    assert made.SeriesInstanceUID != classic[0].SeriesInstanceUID
    # The slices that there would be without `enhanced`, and the images of the source.
    origins = {group.ConversionSourceAttributesSequence[0].ReferencedSOPInstanceUID for group in frames(made)}
    assert origins == {ds.SOPInstanceUID for ds in classic}
    (evidence,) = made.SourceImageEvidenceSequence[0].ReferencedSeriesSequence
    assert evidence.SeriesInstanceUID == "1.2.3.4"
    named = {item.ReferencedSOPInstanceUID for item in evidence.ReferencedSOPSequence}
    assert named == {dcmread(path).SOPInstanceUID for path in series.iterdir()}
    assert any(item.Manufacturer == "ctsr" for item in made.ContributingEquipmentSequence)
    found = only_series(tmp_path / "one")
    assert (found.kernel, found.slice_thickness) == ("STANDARD", 5)


def frames(made: Dataset) -> list[Dataset]:
    return list(made.PerFrameFunctionalGroupsSequence)


def test_it_is_the_same_again_is_kept_and_gives_way_to_slices(series: Path, bilinear: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(series, out, bilinear, enhanced=True)
    first = (out / "enhanced.dcm").read_bytes()
    assert run(series, out, bilinear, enhanced=True).outcomes[0].kept
    run(series, tmp_path / "again", bilinear, enhanced=True)
    assert (tmp_path / "again" / "enhanced.dcm").read_bytes() == first
    with pytest.raises(UsageError, match="`overwrite=True` replaces it"):
        run(series, out, bilinear)
    run(series, out, bilinear, overwrite=True)
    assert len(list(out.glob("*.dcm"))) == SLICES
    assert not (out / "enhanced.dcm").exists()


def test_slices_of_several_frames_of_reference_get_one_of_their_own(
    series: Path, bilinear: Model, tmp_path: Path
) -> None:
    for i, path in enumerate(sorted(series.iterdir())):
        ds = dcmread(path)
        ds.FrameOfReferenceUID = f"1.2.3.9.{i}"
        ds.save_as(path)
    (outcome,) = run(series, tmp_path / "one", bilinear, enhanced=True).outcomes
    assert any(f"{SLICES} frames of reference" in line for line in outcome.warnings)
    assert not str(dcmread(tmp_path / "one" / "enhanced.dcm").FrameOfReferenceUID).startswith("1.2.3.9")


def test_names_are_taken_from_it_as_from_slices(series: Path, bilinear: Model, tmp_path: Path) -> None:
    run(series, tmp_path / "one", bilinear, enhanced=True, anonymize=True)
    made = dcmread(tmp_path / "one" / "enhanced.dcm")
    assert not any(word in made.to_json() for word in ("Doe", "Jane", '"P1"', '"1.2.3'))
    assert dciodvfy_errors(tmp_path / "one" / "enhanced.dcm") == set()


def test_slices_that_do_not_make_one_object_are_refused_in_one_line(
    series: Path, bilinear: Model, tmp_path: Path
) -> None:
    path = min(series.iterdir())
    ds = dcmread(path)
    ds.InstitutionName = "ELSEWHERE"
    ds.save_as(path)
    (outcome,) = run(series, tmp_path / "out", bilinear, enhanced=True).outcomes
    assert "InstitutionName" in outcome.error
    assert outcome.error.endswith("leave out `enhanced`")
    assert "\n" not in outcome.error
    assert not list((tmp_path / "out").rglob("*.dcm")), "nothing partial is left"


def test_what_would_not_fit_is_refused_before_anything_is_computed(
    series: Path, bilinear: Model, tmp_path: Path
) -> None:
    with pytest.raises(SeriesError, match=r"takes .* of memory.*leave out `enhanced`, or raise `max_memory`"):
        run(series, tmp_path / "out", bilinear, enhanced=True, max_memory=1e-4)
    assert "too large for one DICOM file" in size_problem(2**32, 2**40)
    with pytest.raises(UsageError, match="`enhanced` is for DICOM"):
        UpscaleOptions(format="nifti", enhanced=True)


def test_without_highdicom_the_line_says_what_to_install(
    series: Path, bilinear: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("ctsr.dicom.variants.find_spec", lambda name: None if name == "highdicom" else find(name))
    with pytest.raises(UsageError, match=r"pip install '\.\[enhanced\]'"):
        run(series, tmp_path / "out", bilinear, enhanced=True)


@pytest.mark.parametrize("damage", ["pixels", "position", "slope"])
def test_a_file_that_says_something_else_never_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    made = [signed(ds) for ds in slices(3)]
    paths = [save(ds, tmp_path / f"{i}.dcm") for i, ds in enumerate(made)]
    save_enhanced(paths, tmp_path / "right.dcm", source_series_uid="1.2.3.4")
    saved = Dataset.save_as

    def damaged(self: Dataset, *args: Any, **how: Any) -> None:
        if damage == "pixels":
            self.PixelData = self.PixelData[:-2] + b"\x01\x02"
        elif damage == "position":
            frames(self)[1].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
        else:
            self.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleSlope = 2
        saved(self, *args, **how)

    monkeypatch.setattr(Dataset, "save_as", damaged)
    with pytest.raises(ReadError, match=f"read back, .*{'frame' if damage == 'pixels' else damage}.* is not that"):
        save_enhanced(paths, tmp_path / "wrong.dcm", source_series_uid="1.2.3.4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.dcm", "1.dcm", "2.dcm", "right.dcm"]


def signed(ds: Dataset) -> Dataset:
    ds.PixelData = (ds.pixel_array.astype(np.int32) - 1024).astype("<i2").tobytes()
    ds.PixelRepresentation, ds.RescaleIntercept = 1, 0
    return ds


def test_the_command_makes_one_file_of_slices_between_slices(series: Path, tmp_path: Path) -> None:
    model = save_slice_model(tmp_path / "z.pth")
    words = ["upscale", str(series), str(tmp_path / "one"), "--slice_model", str(model), "--slice_spacing", "1.25"]
    assert main([*words, "--enhanced", "--device", "cpu"]) == 0
    made = only_series(tmp_path / "one")
    assert (made.slice_step, made.slice_thickness) == (1.25, 1.25)
    assert len(made.slices) == int(dcmread(tmp_path / "one" / "enhanced.dcm").NumberOfFrames) > SLICES
