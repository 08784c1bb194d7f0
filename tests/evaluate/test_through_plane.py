"""Networks between slices are measured on thin series made thick, by the algorithm that is delivered."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom import Dataset
from pydicom.sequence import Sequence

import ctsr
from ctsr.checkpoint import load_model
from ctsr.cli.main import main
from ctsr.errors import CheckpointError, DomainError, MissingInputError, UsageError
from ctsr.evaluate import EvaluateOptions, planes
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.evaluate.output_folder import SliceCase
from ctsr.evaluate.planes import MadeCase, ThroughPlaneResult, super_resolve_thick
from ctsr.evaluate.slices import chosen_planes
from ctsr.evaluate.thin_series import series_name, told_apart
from ctsr.evaluate.through_plane import draw_strips, evaluate_through_plane, method_figures
from ctsr.exams import read_volume
from ctsr.figures import Panel, new_figure
from ctsr.hallucination.lesion_insertion import Lesion, draw_between, trials_between
from ctsr.hu import AIR
from ctsr.infer import TorchEngine
from ctsr.physics.transfer import full_width, slice_sensitivity
from ctsr.through_plane import Block, SliceProfile, ThickenedVolume, thicken
from tests.made.ct import body, save_series
from tests.made.exams import only_series
from tests.made.listener import Listener
from tests.made.model import save_slice_model

CPU = torch.device("cpu")


def thin_volume(slices: int = 30, size: int = 40, seed: int = 7) -> Block:
    flat = [body(size, seed=seed, smooth=2, texture=300, radius=0.5 + 0.01 * i) for i in range(slices)]
    volume = np.stack(flat).astype(np.float32)
    volume[:, size // 2, size // 2] = np.arange(slices)  # so that no slice is a copy of the one before it
    return volume


def save_thin(folder: Path, name: str, *, step: float = 1.0, slices: int = 30) -> Path:
    save_series(
        folder / name / "s",
        thin_volume(slices, seed=len(name)),
        series=f"1.7.{len(name)}",
        step=step,
        SliceThickness=step,
        PatientID=name,
        StudyInstanceUID=f"1.6.{len(name)}",
    )
    return folder


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> ModelUnderTest:
    path = save_slice_model(tmp_path_factory.mktemp("z") / "best.pth", {"train": ("anna",), "val": (), "test": ()})
    return ModelUnderTest(load_model(path), CPU)


def options(root: Path, **others: object) -> EvaluateOptions:
    settings: dict[str, object] = {
        "root": (root,),
        "output_dir": root.parent / "results",
        "through_plane": True,
        "thickness": (3.0,),
        "distance": (3.0,),
        "planes": 3,
        "metrics": ("PSNR", "SSIM", "hu", "tissue"),
        "no_plots": True,
    }
    return EvaluateOptions(**(settings | others))  # pyright: ignore[reportArgumentType]


def test_no_slice_is_dropped_and_truth_lies_where_thick_slices_begin_and_end() -> None:
    thin = thin_volume()
    made = thicken(thin, 1.0, SliceProfile(3.0), 3.0)
    assert (made.first, made.grid.count, made.grid.num_wanted) == (1, 10, 28)
    np.testing.assert_allclose(made.thick[2], thin[6:9].mean(axis=0), atol=0.01)
    np.testing.assert_array_equal(made.truth, thin[1:29])
    np.testing.assert_allclose(made.again(made.truth), made.thick[1:-1], atol=0.01)


@pytest.mark.parametrize(("step", "slices", "said"), [(2.0, 30, "no truth"), (1.0, 8, "too few")])
def test_what_cannot_be_truth_is_refused(step: float, slices: int, said: str) -> None:
    with pytest.raises(DomainError, match=said):
        thicken(thin_volume(slices), step, SliceProfile(3.0), 3.0)


def test_what_is_measured_is_what_is_delivered_to_the_bit(tmp_path: Path, tested: ModelUnderTest) -> None:
    case = thicken(thin_volume(), 1.0, SliceProfile(3.0), 3.0)
    measured = super_resolve_thick(TorchEngine(tested.model.net), tested.hu_range, case)
    volume = ctsr.Volume.from_array(case.thick, spacing=(3.0, 0.7, 0.7))
    delivered = ctsr.upscale(volume, slice_spacing=1.0, slice_profile="3", slice_model=tested.model, engine="torch")
    assert np.array_equal(measured, delivered.hu)

    # On disk: whole HU in, so that the files hold the very thick slices, and whole HU out.
    whole = np.rint(case.thick).astype(np.int16)
    save_series(tmp_path / "thick" / "s", list(whole), step=3.0, SliceThickness=3, SpacingBetweenSlices=3)
    words = ["upscale", str(tmp_path / "thick" / "s"), str(tmp_path / "thin"), "--slice_spacing", "1"]
    words += ["--slice_model", str(tested.model.path), "--engine", "torch", "--no_picture"]
    assert main(words) == 0
    files = ctsr.read_volume(only_series(tmp_path / "thin")).hu
    on_disk = ctsr.read_volume(only_series(tmp_path / "thick"))
    assert on_disk.padding is not None  # as a scanner's circle: continued into by both
    rounded = replace(case, thick=on_disk.hu, padding=on_disk.padding)
    made = super_resolve_thick(TorchEngine(tested.model.net), tested.hu_range, rounded)
    # Readers take what lies below air for padding; the random network makes some of that around the body.
    shown = made >= AIR
    assert shown.mean() > 0.7
    np.testing.assert_array_equal(files[shown], np.rint(made)[shown])


def test_lesions_lie_between_thick_slices_and_cubic_brings_a_part_of_them_back() -> None:
    soft = np.full((40, 80, 80), 40, np.float32)
    case = thicken(soft, 1.0, SliceProfile(5.0), 5.0)
    spacing = (1.0, 1.0, 1.0)
    lesions = draw_between(case, spacing, np.random.default_rng(0))
    assert {lesion.diameter_mm for lesion in lesions} == {4.0, 6.0, 8.0, 10.0}
    for lesion in lesions:
        assert 0.25 <= lesion.height / 5 % 1 <= 0.75
    methods = {"cubic": lambda made: made.interpolated("cubic"), "truth": lambda made: made.truth}
    trials = trials_between("s", case, lesions, methods, spacing)
    assert len(trials) == 2 * len(lesions)
    for trial in trials:
        if trial.method == "truth":
            assert trial.recovered == pytest.approx(1)
        assert abs(trial.false_contrast_hu) < 0.01
        assert not trial.appeared
    cubic = {d: [t.recovered for t in trials if t.method == "cubic" and t.lesion.diameter_mm == d] for d in (4.0, 10.0)}
    assert 0 < max(cubic[4.0]) < 0.6 < min(cubic[10.0]) < 1


def test_a_lesion_that_a_method_invents_is_noticed() -> None:
    case = thicken(np.full((40, 80, 80), 40, np.float32), 1.0, SliceProfile(5.0), 5.0)
    lesion = Lesion(40, 40, 8.0, 100.0, "soft tissue", 17.5)

    def inventive(made: ThickenedVolume) -> Block:
        invented = made.truth.copy()
        invented[14:22, 28:37, 28:37] += 90  # the region of 64 pixels begins at row and column 8
        return invented

    (trial,) = trials_between("s", case, [lesion], {"inventive": inventive}, (1.0, 1.0, 1.0))
    assert trial.appeared


def test_a_thin_disc_is_as_wide_as_interpolation_makes_it() -> None:
    profile = SliceProfile(5.0)
    truth = slice_sensitivity(lambda made: made.truth, profile, 5.0, 1.0)
    linear = slice_sensitivity(lambda made: made.interpolated("linear"), profile, 5.0, 1.0)
    assert truth == pytest.approx(1.0)
    # The triangle between slices 5 mm apart: a disc lies within one profile, or touches two.
    assert linear == pytest.approx(5.0, abs=0.6)
    assert full_width(np.array([0.0, 1, 2, 1, 0])) == 2.0
    assert full_width(np.zeros(5)) is None
    assert full_width(np.array([2.0, 1, 0])) is None


def test_each_direction_is_compared_where_there_is_a_body() -> None:
    places = chosen_planes(thin_volume(), 4)
    assert [sum(direction == name for direction, _ in places) for name in ("axial", "coronal", "sagittal")] == [4] * 3
    assert all(4 <= index < 36 for direction, index in places if direction != "axial")


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0)])
def test_strips_have_the_head_up_whichever_way_slices_are_ordered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: tuple[float, ...]
) -> None:
    images = [body(40) + np.float32(10 * i) for i in range(12)]  # from the feet on brighter
    save_series(tmp_path / "s", images, step=1.0, orientation=orientation)
    series = only_series(tmp_path / "s")
    volume = read_volume(series).hu
    thick = thicken(volume, 1.0, SliceProfile(3.0), 3.0)
    truth = {("coronal", 20): thick.truth[:, 20]}
    shown: list[Panel] = []
    monkeypatch.setattr(
        "ctsr.evaluate.through_plane.slices_figure",
        lambda panels, *_, **__: shown.extend(panels) or new_figure(1, 1),
    )
    draw_strips(MadeCase(series, SliceCase(3.0, 3.0), thick, {"Model": truth}), tmp_path / "plots")
    assert [panel.hu[0, 20] > panel.hu[-1, 20] + 30 for panel in shown] == [True] * 3


def test_tables_page_and_strips_are_written(tmp_path: Path, tested: ModelUnderTest) -> None:
    root = save_thin(save_thin(tmp_path / "exams", "bert"), "cleopatra")
    both = {"thickness": (3.0, 4.0), "distance": (3.0, 2.5), "physics": True, "hallucination": True}
    asked = options(root, **both, no_plots=False, windows=("global", "soft_tissue"), mask=("none", "body"))
    result = evaluate_through_plane([tested], asked)
    assert result.failures == ()
    with (result.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # 2 patients, 2 cases, 9 planes, 4 domains, 4 methods
    assert len(rows) == 2 * 2 * 9 * 4 * 4
    assert {row["plane"] for row in rows} == {"axial", "coronal", "sagittal"}
    assert {(row["thickness_mm"], row["distance_mm"]) for row in rows} == {("3.0", "3.0"), ("4.0", "2.5")}
    assert all(float(row["PSNR"]) > 5 for row in rows)

    figures = method_figures(result)
    assert len(figures) == 2 * 2 * 4
    by_method = {row.method: row for row in figures if row.patient_id == "bert" and row.thickness_mm == 3}
    simple = [by_method[f"Interpolation ({name})"].over_best_db for name in ("Linear", "Cubic")]
    assert max(value for value in simple if value is not None) == 0
    assert by_method["Model (EDSR_Z)"].back_hu < by_method["Interpolation (Linear)"].back_hu

    summary = json.loads((result.folder / "summary.json").read_text())
    assert [case["thickness_mm"] for case in summary["cases"]] == [3.0, 4.0]
    coronal = summary["cases"][0]["by_domain"]["preset-soft_tissue_body"]["coronal"]
    assert coronal["patient_level_aggregate"]["Model (EDSR_Z)"]["SSIM"]["n"] == 2
    assert (result.folder / "series.csv").is_file()
    assert (result.folder / "tables.csv").is_file()
    assert len(list((result.folder / "plots").glob("coronal_bert_*.png"))) == 2
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    assert "Slices of 4 mm every 2.5 mm" in page
    assert "data:image/png;base64" in page
    assert "Edges along z" in page
    widths = result.records[0].disc_width_mm
    assert widths["Interpolation (Linear)"] == pytest.approx(3, abs=0.6)


def test_what_stands_beside_the_numbers_costs_none_of_them(
    tmp_path: Path, tested: ModelUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("too small")

    asked = options(save_thin(tmp_path / "exams", "bert"), physics=True, no_plots=False)
    with monkeypatch.context() as broken:
        broken.setattr("ctsr.evaluate.planes.slice_sensitivity", fail)
        broken.setattr("ctsr.evaluate.through_plane.slices_figure", fail)
        result = evaluate_through_plane([tested], asked)
    assert len(result.rows) == 9 * 4
    said = [failure.partition(": no ")[2] for failure in result.failures]
    assert said == ["physics and lesions: too small", "picture: too small"]
    assert json.loads((result.folder / "summary.json").read_text())["failures"] == list(result.failures)
    assert (result.folder / "report.html").is_file()

    again = evaluate_through_plane([tested], asked)
    assert again.folder == result.folder
    assert again.failures == ()
    assert again.rows == result.rows
    assert again.records[0].disc_width_mm
    assert list((again.folder / "plots").glob("*.png"))


def test_a_case_that_is_made_again_stands_where_it_would_have_stood(
    tmp_path: Path, tested: ModelUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood at the end of tables and pages, and its patient was the last that intervals drew."""
    root = save_thin(save_thin(tmp_path / "exams", "bert"), "cleopatra")
    whole = evaluate_through_plane([tested], options(root, output_dir=tmp_path / "whole"))
    asked = options(root, output_dir=tmp_path / "again")
    with monkeypatch.context() as broken:
        study, failing = planes._study, iter([True])  # pyright: ignore[reportPrivateUsage]

        def fail_once(*words: Any) -> None:
            if next(failing, False):
                raise ValueError("no room")
            study(*words)

        broken.setattr(planes, "_study", fail_once)
        first = evaluate_through_plane([tested], asked)
        assert len(first.failures) == 1
    again = evaluate_through_plane([tested], asked)
    assert [record.key for record in again.records] == [record.key for record in whole.records]
    assert (again.folder / "metrics.csv").read_bytes() == (whole.folder / "metrics.csv").read_bytes()
    cases = json.loads((again.folder / "cases.json").read_text(encoding="utf-8"))
    assert [case["patient_id"] for case in cases] == [record.patient_id for record in whole.records]


def in_one_go_and_interrupted(place: Path, tested: ModelUnderTest) -> tuple[ThroughPlaneResult, EvaluateOptions]:
    """An evaluation, and the options of the same one that was interrupted at its last case."""
    root = save_thin(save_thin(place / "exams", "bert"), "cleopatra")
    whole = evaluate_through_plane([tested], options(root, output_dir=place / "whole"))
    cut = options(root, output_dir=place / "cut")
    with pytest.raises(KeyboardInterrupt):
        evaluate_through_plane([tested], cut, Listener(stop_in="cleopatra, slices of 3 mm every 3 mm"))
    return whole, cut


def test_an_interrupted_evaluation_is_continued_to_the_same_rows(tmp_path: Path, tested: ModelUnderTest) -> None:
    whole, cut = in_one_go_and_interrupted(tmp_path, tested)
    heard = Listener()
    again = evaluate_through_plane([tested], cut, heard)
    assert len(list((tmp_path / "cut").iterdir())) == 1
    assert (again.folder / "metrics.csv").read_bytes() == (whole.folder / "metrics.csv").read_bytes()
    assert again.records[0].seconds  # what is known of the first series has survived


def test_a_case_whose_rows_were_lost_in_part_is_measured_again(tmp_path: Path, tested: ModelUnderTest) -> None:
    """Records reach the disk before rows: after a power cut, means were of the planes that were left."""
    whole, cut = in_one_go_and_interrupted(tmp_path, tested)
    (table,) = (tmp_path / "cut").glob("*/metrics.csv")
    table.write_text("".join(table.read_text(encoding="utf-8").splitlines(keepends=True)[:-3]), encoding="utf-8")
    again = evaluate_through_plane([tested], cut)
    assert (again.folder / "metrics.csv").read_bytes() == (whole.folder / "metrics.csv").read_bytes()


def test_the_command_shows_the_table_and_its_config_repeats_it(
    tmp_path: Path, tested: ModelUnderTest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_thin(Path("exams"), "bert")
    words = ["evaluate", "--root", "exams", "--through_plane", "--thickness", "3", "4", "--distance", "3", "3"]
    words += ["--model_path", str(tested.model.path), "--planes", "2", "--metrics", "PSNR", "--no_plots"]
    assert main([*words, "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "Model (EDSR_Z)" in said.out
    (config,) = Path("eval_results").glob("*/config.json")
    assert main(["evaluate", "--config", str(config), "--output_dir", "again"]) == 0
    (again,) = Path("again").glob("*/metrics.csv")
    assert again.read_bytes() == (config.parent / "metrics.csv").read_bytes()


def test_trained_patients_and_thick_series_are_left_out_and_said(tmp_path: Path, tested: ModelUnderTest) -> None:
    root = save_thin(save_thin(tmp_path / "exams", "anna"), "cleopatra")
    save_thin(root, "thickset", step=2.0)
    heard = Listener()
    result = evaluate_through_plane([tested], options(root), heard)
    assert {row.slice.patient_id for row in result.rows} == {"cleopatra"}
    assert any("trained on anna" in note for note in heard.notes)
    assert any("too far apart to be truth" in note and "thickset" in note for note in heard.notes)
    result = evaluate_through_plane([tested], options(root, allow_train_patients=True))
    assert {row.slice.patient_id for row in result.rows} == {"anna", "cleopatra"}


def test_a_series_with_an_odd_slice_is_measured_with_a_warning_or_not_at_all(
    tmp_path: Path, tested: ModelUnderTest
) -> None:
    root, heard = tmp_path / "exams", Listener()
    for name, shift in (("boris", 100), ("cleopatra", 1024)):
        volume = thin_volume()
        volume[20] += shift
        save_series(root / name / "s", volume, series=f"1.7.{len(name)}", step=1.0, SliceThickness=1.0, PatientID=name)
    result = evaluate_through_plane([tested], options(root), heard)
    assert len([note for note in heard.notes if "unlike its series" in note and "boris" in note]) == 1
    assert {record.patient_id for record in result.records} == {"boris"}
    (failure,) = result.failures
    assert failure.startswith("cleopatra: ")
    assert "unlike its series" in failure


def test_what_a_network_made_thin_is_no_truth(tmp_path: Path, tested: ModelUnderTest) -> None:
    root = save_thin(tmp_path / "exams", "boris")
    program = Dataset()
    program.Manufacturer, program.ManufacturerModelName = "ctsr", "ctsr-z sha256:0123456789abcdef"
    made = {"series": "1.7.8", "SliceThickness": 1.0, "ContributingEquipmentSequence": Sequence([program])}
    save_series(root / "cleopatra" / "s", thin_volume(), step=1.0, PatientID="cleopatra", **made)
    result = evaluate_through_plane([tested], options(root))
    assert {row.slice.patient_id for row in result.rows} == {"boris"}
    (failure,) = result.failures
    assert failure.startswith("cleopatra: ")
    assert "a result of `ctsr upscale`" in failure


def test_a_root_without_truth_is_refused_in_one_line(tmp_path: Path, tested: ModelUnderTest) -> None:
    root = save_thin(tmp_path / "exams", "thick", step=2.0)
    with pytest.raises(MissingInputError, match=r"evenly spaced slices at most 1\.5 mm apart"):
        evaluate_through_plane([tested], options(root))


@pytest.mark.parametrize(
    "flags",
    [
        ["--thickness", "3", "4", "--distance", "3"],
        ["--thickness", "0", "--distance", "3"],
        ["--planes", "0"],
        ["--degradation", "clean"],
        ["--alphas", "0.5"],
    ],
)
def test_flags_that_mean_nothing_here_are_refused(
    flags: list[str], tmp_path: Path, tested: ModelUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    root = save_thin(tmp_path / "exams", "bert")
    words = ["evaluate", "--root", str(root), "--through_plane", "--model_path", str(tested.model.path), *flags]
    assert main(words) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_a_model_in_plane_is_no_model_between_slices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = save_thin(tmp_path / "exams", "bert")
    assert main(["evaluate", "--root", str(root), "--through_plane", "--model_path", "ctsr-x2"]) == 1
    assert "is a model in plane" in capsys.readouterr().err
    with pytest.raises(UsageError, match="pairs"):
        EvaluateOptions(thickness=(1.0, 2.0))


def test_python_api_measures_what_the_command_line_does(tested: ModelUnderTest, tmp_path: Path) -> None:
    root = save_thin(tmp_path / "thin", "bea")
    others: dict[str, Any] = {"thickness": (3.0,), "distance": (3.0,), "planes": 3}
    by_api = ctsr.evaluate(
        root, tmp_path / "api", through_plane=True, model=tested.model, names=["PSNR"], no_plots=True, **others
    )
    again = evaluate_through_plane([tested], options(root, metrics=("PSNR",)))
    assert by_api.folder.parent == tmp_path / "api"
    assert [row.metrics["PSNR"].value for row in by_api.rows] == [row.metrics["PSNR"].value for row in again.rows]


@pytest.mark.parametrize("wrong", [{"through_plane": True, "model": "ctsr-x2"}, {"model": "ctsr-z"}])
def test_python_api_refuses_a_model_of_the_other_kind(wrong: dict[str, Any], tmp_path: Path) -> None:
    root = save_thin(tmp_path / "thin", "bea")
    with pytest.raises(CheckpointError, match="between slices"):
        ctsr.evaluate(root, tmp_path / "api", **wrong)


def test_python_api_takes_a_folder_of_thin_series_without_degradation(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"through_plane": True}
    with pytest.raises(UsageError, match="`through_plane`"):
        ctsr.evaluate(thin_volume(4), **wrong)
    with pytest.raises(UsageError, match="`degradation`"):
        ctsr.evaluate(tmp_path, tmp_path / "api", degradation="clean", **wrong)


def save_nifti(root: Path, patient: str, slices: Block) -> None:
    (root / patient).mkdir(parents=True)
    image = nib.Nifti1Image(np.round(slices.transpose(2, 1, 0)).astype(np.int16), np.diag([-0.7, -0.7, 1, 1]))
    nib.save(image, root / patient / "ct.nii.gz")


def noisy(sigma_hu: float, slices: int = 30) -> Block:
    return thin_volume(slices) + np.random.default_rng(1).normal(0, sigma_hu, (slices, 40, 40)).astype(np.float32)


def test_files_of_one_name_are_series_of_their_own(tmp_path: Path, tested: ModelUnderTest) -> None:
    volumes = {"bert": noisy(10), "cleo": noisy(60), "dora": noisy(10, slices=5)}  # the last is too short to be truth
    alone: dict[str, float | None] = {}
    for patient in ("bert", "cleo"):
        save_nifti(tmp_path / patient, patient, volumes[patient])
        result = evaluate_through_plane([tested], options(tmp_path / patient, output_dir=tmp_path / f"{patient} only"))
        alone[patient] = next(row.psnr_db for row in method_figures(result) if "Cubic" in row.method)
        save_nifti(tmp_path / "all", patient, volumes[patient])
    assert alone["bert"] != pytest.approx(alone["cleo"], abs=0.5)
    save_nifti(tmp_path / "all", "dora", volumes["dora"])

    wanted = options(tmp_path / "all", output_dir=tmp_path / "results")
    with pytest.raises(KeyboardInterrupt):
        evaluate_through_plane([tested], wanted, Listener(stop_in="cleo, slices of 3 mm every 3 mm"))
    result = evaluate_through_plane([tested], wanted)
    found = {row.patient_id: row.psnr_db for row in method_figures(result) if "Cubic" in row.method}
    assert found == pytest.approx(alone)
    assert [record.patient_id for record in result.records if record.problem] == ["dora"]
    assert "2 patients, 2 thin series" in (result.folder / "report.html").read_text(encoding="utf-8")


def test_series_that_rows_would_know_by_one_name_are_numbered(tmp_path: Path) -> None:
    series = only_series(save_thin(tmp_path / "exams", "bert"))
    other = replace(series, patient_id="cleo")
    names = [series_name(found) for found in told_apart([series, replace(series), other])]
    assert names == ["1.7.4/1", "1.7.4/2", "1.7.4"]


def test_values_that_are_not_hu_are_no_truth(tmp_path: Path, tested: ModelUnderTest) -> None:
    tags = {"SliceThickness": 1.0, "PatientID": "bert", "RescaleIntercept": 0}
    save_series(tmp_path / "exams" / "bert" / "s", thin_volume(), step=1.0, **tags)
    with pytest.raises(MissingInputError, match="do not look like HU"):
        evaluate_through_plane([tested], options(tmp_path / "exams"))
    result = evaluate_through_plane([tested], options(tmp_path / "exams", assume_hu=True))
    assert {record.patient_id for record in result.records} == {"bert"}
