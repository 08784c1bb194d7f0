"""Results of a network are known again: no truth, nothing to train on. Those of preprocess are scans."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from ctsr.checkpoint import Model
from ctsr.cli.main import main
from ctsr.errors import MissingInputError, SeriesError
from ctsr.exams import scan
from ctsr.infer import EngineRequest
from ctsr.preprocess import preprocess
from ctsr.quantization.calibration import ExamSlices
from ctsr.series import DefectKind, Series, check
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.run import upscale
from tests.made.ct import body, ct_slice, save, save_thick_series
from tests.made.exams import only_series, save_patient, save_patients
from tests.made.listener import Listener
from tests.needs import needs

WAYS = [
    pytest.param({}, id="dicom"),
    pytest.param({"format": "nifti"}, id="nifti"),
    pytest.param({"enhanced": True}, id="enhanced"),
    pytest.param({"anonymize": True}, id="anonymized"),
    pytest.param({"slice_spacing": 1.0}, id="between"),
    pytest.param({"slice_spacing": 1.0, "format": "nifti"}, id="between, nifti"),
]


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return save_thick_series(tmp_path / "exams" / "P1" / "s")


def made_finer(series: Path, out: Path, bilinear: Model, between: Model, **options: object) -> Path:
    settings = UpscaleOptions(**({"picture": False} | options))  # pyright: ignore[reportArgumentType]
    thin = between if "slice_spacing" in options else None
    report = upscale(series, out, thin or bilinear, EngineRequest("torch"), settings, between=thin, progress=Listener())
    assert report.failed == 0
    return out


def kinds(series: Series) -> set[DefectKind]:
    return {defect.kind for defect in series.defects}


@pytest.mark.parametrize("options", WAYS)
def test_a_result_is_a_source_with_a_warning_and_never_truth(
    series: Path, tmp_path: Path, bilinear: Model, between: Model, options: dict[str, object]
) -> None:
    needs(find_spec("highdicom") is not None, "install highdicom to run this")
    assert DefectKind.SUPER_RESOLVED not in kinds(only_series(series))
    found = only_series(made_finer(series, tmp_path / "out", bilinear, between, **options))
    for command in ("preprocess", "view", "upscale"):
        assert any("a result of `ctsr upscale`" in warning for warning in check(found, command))
    for command in ("train", "evaluate"):
        with pytest.raises(SeriesError, match=r"a result of `ctsr upscale`.*\. Give the source series\."):
            check(found, command)


@pytest.mark.parametrize("form", ["dicom", "nifti"])
def test_what_preprocess_makes_is_a_scan_and_a_result_only_where_it_was_made_of_one(
    series: Path, tmp_path: Path, bilinear: Model, between: Model, form: str
) -> None:
    root = tmp_path / "mixed"
    made_finer(series, root / "P2", bilinear, between, format=form)
    shutil.copytree(series, root / "P1")
    preprocess(root, tmp_path / "pp")
    first, second = scan(tmp_path / "pp").patients
    assert [DefectKind.SUPER_RESOLVED in kinds(patient.series[0]) for patient in (first, second)] == [False, True]
    assert check(first.series[0], "train") == check(first.series[0], "evaluate") == []


@pytest.mark.parametrize(
    ("item", "is_result"),
    [
        ({"Manufacturer": "ctsr", "ManufacturerModelName": "best sha256:0123456789abcdef"}, True),
        ({"Manufacturer": "ctsr", "ManufacturerModelName": "ctsr"}, False),
        ({"Manufacturer": "ctsr"}, False),
        ({"Manufacturer": "GE", "ManufacturerModelName": "PET/CT sha256:0123"}, False),
        ({}, False),
    ],
)
def test_only_a_network_of_ctsr_makes_a_result(tmp_path: Path, item: dict[str, str], is_result: bool) -> None:
    equipment = Dataset()
    for name, value in item.items():
        setattr(equipment, name, value)
    save(ct_slice(body(), ContributingEquipmentSequence=Sequence([equipment])), tmp_path / "P" / "s.dcm")
    assert (DefectKind.SUPER_RESOLVED in kinds(only_series(tmp_path))) == is_result


def test_a_contribution_that_cannot_be_read_is_no_reason_to_leave_a_slice_out(tmp_path: Path) -> None:
    path = save(ct_slice(body()), tmp_path / "P" / "s.dcm")
    ds = dcmread(path)
    ds.add_new("ContributingEquipmentSequence", "LO", "ctsr")
    ds.save_as(path)
    assert kinds(only_series(tmp_path)) == {DefectKind.SINGLE_SLICE}


def test_split_physics_and_calibration_say_what_they_are_given(
    series: Path, tmp_path: Path, bilinear: Model, between: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "mixed"
    made = made_finer(series, root / "P2" / "finer", bilinear, between)
    for name in ("P1", "P3", "P4"):
        save_patient(root, name, slices=3, size=64, seed=int(name[1]))
    words = "a result of `ctsr upscale`, whose detail a network made up"
    assert main(["split", "--root", str(root), "--out_dir", str(tmp_path / "splits")]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [line for line in warnings if words in line] == warnings
    assert len(warnings) == 1
    main(["physics", str(made)])
    assert words in capsys.readouterr().err

    listener = Listener()
    found = ExamSlices.below(root, progress=listener)
    assert [one.patient_id for one in found.series] == ["P1", "P3", "P4"]
    (line,) = [note for note in listener.notes if note.startswith("left out of the calibration: ")]
    assert words in line
    with pytest.raises(MissingInputError, match=r"no usable CT series for INT8 calibration: .*a result of `ctsr"):
        ExamSlices.below(made)


def test_values_that_are_no_hu_are_said_at_the_split_and_set_no_scales(tmp_path: Path) -> None:
    root = save_patients(tmp_path / "exams", ("anna", "bert", "cleo"), slices=3, size=64)
    for path in save_patient(root, "dora", slices=3, size=64, seed=9):
        dataset = dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.001, 0
        dataset.save_as(path)
    listener = Listener()
    found = ExamSlices.below(root, progress=listener)
    assert [one.patient_id for one in found.series] == ["anna", "bert", "cleo"]
    assert [note for note in listener.notes if "dora" in note and "left out of the calibration" in note]
    (warning,) = check(only_series(root / "dora"), "split")
    assert "dora" in warning
