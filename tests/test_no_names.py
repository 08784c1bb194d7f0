"""`--no_names`: results, pictures and runs that are passed on do not say whose images they are of."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.misc import is_dicom

from ctsr.checkpoint import load_checkpoint, load_model, resolve_model
from ctsr.cli.main import main
from ctsr.data.datasets import open_roots, trained_on
from ctsr.documents import upsampled_series
from ctsr.errors import MissingInputError, SplitError
from ctsr.evaluate import EvaluateOptions
from ctsr.evaluate.evaluation import Evaluation, evaluate, evaluate_curve
from ctsr.evaluate.methods import ModelUnderTest, load_model_under_test
from ctsr.evaluate.output_folder import Row, read_rows
from ctsr.evaluate.through_plane import evaluate_through_plane
from ctsr.hashing import derived_uid, pseudonym
from ctsr.infer import EngineRequest
from ctsr.preprocess import preprocess
from ctsr.reporting import safe_name
from ctsr.train import FinetuneOptions, TrainOptions, continued
from ctsr.train.finetune import finetune
from ctsr.train.run import train
from ctsr.upscale import UpscaleOptions
from ctsr.upscale.run import upscale
from ctsr.viewer import ViewOptions
from ctsr.viewer.embed import snapshot
from ctsr.viewer.session import PageTurn, ViewedSlice, open_session
from ctsr.viewer.state import ViewRequest, prepare
from tests.made.ct import body, save_series
from tests.made.exams import save_patient, study_of
from tests.made.model import save_model, save_slice_model
from tests.made.names import assert_nameless, drawn
from tests.made.training import assert_same_state

__all__ = ["drawn"]

PATIENTS = ("annikova", "bertolini", "cleopatra", "doralinda", "emilianus", "fredericks")
SPLIT = {"train": PATIENTS[:3], "val": PATIENTS[3:5], "test": PATIENTS[5:]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clinic-of-doctor-x")
    for seed, name in enumerate(PATIENTS):
        save_patient(folder, name, slices=4, size=48, seed=seed, series=derived_uid("series", name))
    return folder


@pytest.fixture(scope="module")
def secrets(root: Path) -> list[str]:
    """What names a patient: folders, PatientIDs, UIDs; and where the data lies."""
    uids = [derived_uid("series", name) for name in PATIENTS]
    return [*PATIENTS, *(f"PID {name}" for name in PATIENTS), *map(study_of, PATIENTS), *uids, root.name]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelUnderTest:
    path = save_model(tmp_path_factory.mktemp("runs") / "rrdb_x2" / "best.pth", split=SPLIT)
    return load_model_under_test(str(path), device="cpu")


@pytest.fixture
def options(root: Path, store: Path, tmp_path: Path) -> EvaluateOptions:
    return EvaluateOptions(root=(root,), store=store, output_dir=tmp_path / "out", metrics=("PSNR", "MAE_HU"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(model: ModelUnderTest, options: EvaluateOptions, **others: Any) -> Evaluation:
    return evaluate([model], model.degradation, replace(options, no_names=True, **others))


def without_names(row: Row) -> Row:
    ref = row.slice
    hashed = {name: pseudonym(getattr(ref, name)) for name in ("patient_id", "series_uid", "sop_instance_uid")}
    return replace(row, slice=replace(ref, **hashed))


@pytest.mark.slow
def test_an_evaluation_names_nobody_in_any_file_or_picture(
    model: ModelUnderTest, options: EvaluateOptions, secrets: list[str], drawn: list[str]
) -> None:
    found = run(
        model,
        options,
        flat_names=True,
        physics=True,
        hallucination=True,
        study_slices=1,
        baselines=("bicubic", "linear"),
        max_patients=1,
    )
    assert {path.name for path in found.folder.iterdir()} >= {"metrics.csv", "summary.json", "report.html", "plots"}
    assert any(pseudonym("doralinda") in words for words in drawn), "pictures name the hash"
    assert_nameless(options.output_dir, secrets, drawn)


def test_hashes_join_the_tables_and_the_figures_are_those_with_names(
    model: ModelUnderTest, options: EvaluateOptions
) -> None:
    named = evaluate([model], model.degradation, replace(options, no_plots=True, max_slices_per_patient=2))
    hashed = run(model, options, no_plots=True, max_slices_per_patient=2)
    rows = read_rows(hashed.folder / "metrics.csv")
    assert rows == list(map(without_names, read_rows(named.folder / "metrics.csv")))
    summary, other = (json.loads((each.folder / "summary.json").read_bytes()) for each in (hashed, named))
    patients = set(map(pseudonym, SPLIT["val"]))
    for table in ("per_patient", "per_series", "deg_seeds_per_patient", "patient_to_degradation_sampled"):
        assert set(summary[table]) == patients == {row.slice.patient_id for row in rows}
        assert [summary[table][pseudonym(name)] for name in SPLIT["val"]] == [
            other[table][name] for name in SPLIT["val"]
        ] or table in {"per_series", "patient_to_degradation_sampled"}  # by series, which are called by hashes too
    assert summary["patient_level_aggregate"] == other["patient_level_aggregate"]


def test_lesions_are_put_where_they_are_with_names(model: ModelUnderTest, options: EvaluateOptions) -> None:
    wanted = replace(options, no_plots=True, hallucination=True, study_slices=1, max_patients=1, metrics=("MAE",))
    found = [evaluate([model], model.degradation, replace(wanted, no_names=hidden)) for hidden in (False, True)]
    named, hashed = (json.loads((each.folder / "hallucination.json").read_bytes()) for each in found)
    assert named["lesions"] == hashed["lesions"]
    assert len(named["trials"]) == len(hashed["trials"]) > 0


def test_what_was_left_out_is_named_in_the_terminal_alone(
    model: ModelUnderTest, options: EvaluateOptions, tmp_path: Path, secrets: list[str]
) -> None:
    broken = tmp_path / "data"
    for seed, name in enumerate(PATIENTS):
        save_patient(broken, name, slices=2, size=48, seed=seed)
    damaged = save_patient(broken, "doralinda", slices=2, size=48, seed=9, series="1.3.99")[0]
    damaged.write_bytes(damaged.read_bytes()[:-900])
    found = run(model, options, root=(broken,), no_plots=True)
    assert any(str(damaged) in line for line in found.failures)
    assert_nameless(options.output_dir, [*secrets, str(broken)])
    assert json.loads((found.folder / "summary.json").read_bytes())["failures"] == [
        "1 patients or series, wholly or in part; the terminal has named them"
    ]


def test_a_curve_names_nobody(model: ModelUnderTest, options: EvaluateOptions, secrets: list[str]) -> None:
    other = load_model(save_model(Path("runs") / "other" / "best.pth", split=SPLIT, seed=5))
    wanted = replace(options, no_names=True, no_plots=True, max_slices_per_patient=1)
    evaluate_curve(other, model.model, [0.0, 1.0], model.device, model.degradation, wanted)
    assert_nameless(options.output_dir, secrets)


def test_the_viewer_shows_an_evaluation_without_names_by_the_same_hashes(
    model: ModelUnderTest, options: EvaluateOptions, root: Path, store: Path, secrets: list[str], drawn: list[str]
) -> None:
    found = run(model, options, no_plots=True, degradation_sampling="slice")
    wanted = ViewOptions(
        store=store, no_names=True, eval_summary=found.folder / "summary.json", snapshot=Path("shot") / "slice.png"
    )
    Path("shot").mkdir()
    session = open_session(prepare(ViewRequest(root / "doralinda", model, model.degradation, wanted)), wanted)
    try:
        viewed = ViewedSlice(session.series[session.state.first], session.settings[0], 1)
        answers = [session.state.as_dict(), session.geometry(0), session.view(PageTurn("page", 0), viewed)]
        assert session.degradation(viewed)["departures"] == [], "the evaluation's own draws are found by their hashes"
        assert answers[0]["series"][0]["patient"] == pseudonym("doralinda")
        snapshot(session, wanted)
    finally:
        session.close()
    said = json.dumps(answers)
    assert not [secret for secret in secrets if secret in said]
    assert_nameless(Path("shot"), secrets, drawn)


def test_the_viewer_does_not_name_who_was_trained_on_or_left_out(
    model: ModelUnderTest, root: Path, store: Path, secrets: list[str]
) -> None:
    wanted = ViewOptions(store=store, no_names=True)
    state = prepare(ViewRequest(root / "annikova", model, model.degradation, wanted)).as_dict()
    assert [caveat["kind"] for caveat in state["caveats"][0]][:1] == ["trained"]
    assert not [secret for secret in secrets if secret in json.dumps(state)]


@pytest.fixture
def training(root: Path, store: Path, tmp_path: Path) -> TrainOptions:
    return TrainOptions(
        data_root=(root,),
        epochs=2,
        batch_size=4,
        patch_size=24,
        num_workers=0,
        nf=4,
        nb=1,
        gc=2,
        device="cpu",
        store=store,
        runs=tmp_path / "runs",
        splits=tmp_path / "splits",
        no_names=True,
    )


def test_a_training_names_nobody_and_is_continued_by_hashes(
    training: TrainOptions, root: Path, secrets: list[str]
) -> None:
    whole = train(training)
    half = train(replace(training, epochs=1, lr_schedule=training.lr_schedule))
    assert_nameless(training.runs, secrets)
    with pytest.raises(MissingInputError, match="preprocessed_data: no such file or folder"):
        train(TrainOptions(resume=str(half.folder), epochs=2))
    train(TrainOptions(resume=str(half.folder), epochs=2, data_root=(root,), store=training.store))
    assert_same_state(*(load_checkpoint(result.folder / "last.pth") for result in (whole, half)))
    assert_nameless(training.runs, secrets)


def test_a_model_without_names_is_refused_for_the_patients_it_was_trained_on(
    training: TrainOptions, options: EvaluateOptions
) -> None:
    path = train(replace(training, epochs=1, no_plots=True)).best
    split = load_checkpoint(path).meta.split
    model = load_model_under_test(str(path), device="cpu")
    found = evaluate([model], model.degradation, replace(options, no_plots=True, max_slices_per_patient=1))
    assert {pseudonym(row.slice.patient_id) for row in read_rows(found.folder / "metrics.csv")} == set(split["val"])
    other = {"train": [], "val": [], "test": []} | {
        "val": [name for name in PATIENTS if pseudonym(name) in split["train"]]
    }
    document = {"splits": {part: [{"patient_id": name} for name in names] for part, names in other.items()}}
    Path("split.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(SplitError, match="was trained on"):
        evaluate([model], model.degradation, replace(options, split_json=Path("split.json")))


def test_sample_pictures_of_a_fine_tuning_name_nobody(
    training: TrainOptions, secrets: list[str], drawn: list[str]
) -> None:
    start = train(replace(training, epochs=1, no_plots=True)).folder
    run = finetune(
        FinetuneOptions(
            data_root=training.data_root,
            pretrained_g=str(start),
            epochs=1,
            batch_size=4,
            patch=24,
            perceptual="none",
            num_workers=0,
            device="cpu",
            store=training.store,
            runs=training.runs,
            splits=training.splits,
            no_names=True,
        )
    )
    assert len(list((run.folder / "samples").iterdir())) == 2
    assert any("name:" in words for words in drawn)
    assert_nameless(training.runs, secrets, drawn)


def test_options_of_a_run_with_names_are_not_those_of_one_without() -> None:
    stored = {"no_names": True, "epochs": 3}
    assert continued(TrainOptions(data_root=(Path("there"),)), stored).data_root == (Path("there"),)
    named = {"no_names": False, "epochs": 3, "data_root": ["here"]}
    assert continued(TrainOptions(), named).data_root == (Path("here"),)


@pytest.fixture
def mixed(root: Path, tmp_path: Path) -> Path:
    """DICOM of two patients, a NIfTI volume of a third, and a localizer, which is left out."""
    folder = tmp_path / "clinic-of-doctor-x"
    for name in ("annikova", "bertolini"):
        shutil.copytree(root / name, folder / name / "scans-of-doralinda")
    scout = next((folder / "annikova").rglob("IM1"))
    ds = dcmread(scout)
    ds.ImageType, ds.SeriesInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], derived_uid("scout", "annikova")
    ds.save_as(folder / "annikova" / "scout-annikova.dcm")
    save_volume_of("cleopatra", folder)
    return folder


def save_volume_of(name: str, root: Path) -> None:
    stack = np.stack([body(48, seed=seed) for seed in range(4)]).transpose(2, 1, 0)
    (root / name).mkdir(parents=True)
    nib.save(nib.Nifti1Image(stack, np.diag([-0.9, -0.9, 2.5, 1.0])), root / name / f"{name}-ct.nii.gz")


def preprocess_command(source: Path, out: Path, *words: str) -> int:
    return main(["preprocess", "--root", str(source), "--out_dir", str(out), *words])


def dicom_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and is_dicom(path))


def test_preprocessing_names_nobody_outside_of_dicom_headers(mixed: Path, tmp_path: Path, secrets: list[str]) -> None:
    out, named = tmp_path / "out", tmp_path / "named"
    assert preprocess_command(mixed, out, "--no_names") == 0
    assert preprocess_command(mixed, named) == 0
    hashed, ours = dicom_of(out), dicom_of(named)
    assert len(hashed) == 8
    assert sorted(path.read_bytes() for path in hashed) == sorted(path.read_bytes() for path in ours)
    assert dcmread(hashed[0]).PatientID in {"PID annikova", "PID bertolini"}, "the patient belongs to the images"
    assert (named / "annikovapp" / "scans-of-doralinda").is_dir()
    assert {path.parent.parent.name for path in hashed} == {
        f"{safe_name(pseudonym(name))}pp" for name in ("annikova", "bertolini")
    }
    for path in hashed:
        path.write_bytes(b"")
    assert {path.name for path in out.iterdir()} > {"preprocessing_log.csv", "preprocess_config.yaml", ".ctsr"}
    assert_nameless(out, [*secrets, "clinic-of-doctor-x", derived_uid("scout", "annikova"), str(tmp_path)])


def test_preprocessed_volumes_name_nobody(tmp_path: Path, secrets: list[str]) -> None:
    save_volume_of("cleopatra", tmp_path / "exams-of-doctor-x")
    assert preprocess_command(tmp_path / "exams-of-doctor-x", tmp_path / "out", "--no_names") == 0
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 1
    assert_nameless(tmp_path / "out", [*secrets, "exams-of-doctor-x", str(tmp_path)])
    ((file, spacings),) = upsampled_series(tmp_path / "out").items()
    assert (tmp_path / "out" / file).is_file()
    assert spacings == pytest.approx((0.9, 0.8))


def test_preprocessing_without_names_is_continued_and_its_patients_are_known_by_hashes(
    mixed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = preprocess(mixed, out, no_names=True)
    assert (first.written, first.kept) == (12, 0)
    again = preprocess(mixed, out, no_names=True)
    assert (again.written, again.kept) == (0, 12)
    assert {row.patient_id for row in again.rows} == {"annikova", "bertolini", "cleopatra"}, "said in the terminal"
    names = ("annikova", "bertolini", "cleopatra")
    assert set(open_roots([out]).ids) == set(map(pseudonym, names))
    assert trained_on(["annikova"], {"train": [pseudonym("annikova")]}) == ["annikova"]
    # With names again: nothing of the same series stays under its hash, in files or logs.
    assert preprocess(mixed, out).written == 12
    assert set(open_roots([out]).ids) == set(names)
    assert "name:" not in (out / "preprocessing_log.csv").read_text(encoding="utf-8")
    assert len(dicom_of(out)) == 8


@pytest.mark.parametrize("between", [False, True])
def test_pictures_of_upscaling_name_nobody(
    root: Path, tmp_path: Path, secrets: list[str], drawn: list[str], between: bool, model: ModelUnderTest
) -> None:
    wanted = UpscaleOptions(names=False, slice_spacing=1.0 if between else None, only="annikova")
    used = load_model(resolve_model("ctsr-z").path) if between else model.model
    report = upscale(root, tmp_path / "out", used, EngineRequest("torch"), wanted, between=used if between else None)
    assert report.failed == 0, report.outcomes
    pictures = "\n".join(drawn)
    assert pseudonym("annikova") in pictures
    assert not [secret for secret in secrets if secret in pictures]
    for record in (tmp_path / "out").rglob("run.json"):
        assert not [secret for secret in secrets if secret in record.read_text(encoding="utf-8")]


def test_what_is_wrong_with_a_series_stays_without_the_names_of_its_files(
    tmp_path: Path, model: ModelUnderTest
) -> None:
    slices = [body(64, seed=9, radius=0.7 + 0.01 * index) for index in range(8)]
    slices[6] = slices[6] + 90
    files = save_series(tmp_path / "exams/annikova/s", slices, PatientID="PID annikova")
    cut, _ = (files[number].rename(files[number].with_name(f"annikova-{number}.dcm")) for number in (2, 6))
    cut.write_bytes(cut.read_bytes()[:-900])
    upscale(tmp_path / "exams", tmp_path / "out", model.model, EngineRequest("torch"), UpscaleOptions(names=False))
    (record,) = (tmp_path / "out").rglob("run.json")
    text = record.read_text(encoding="utf-8")
    said = json.loads(text)["warnings"]
    assert f"{pseudonym('annikova')}: 1 of its images cannot be read" in said
    assert any(line.startswith(f"{pseudonym('annikova')}: slice 6: unlike its series") for line in said)
    assert "annikova" not in text

    wanted = ViewOptions(store=tmp_path / "store", no_names=True)
    state = prepare(ViewRequest(tmp_path / "exams/annikova", model, model.degradation, wanted)).as_dict()
    assert "1 of its images cannot be read" in state["series"][0]["warnings"]
    assert "annikova" not in json.dumps(state)


def test_an_evaluation_between_slices_names_nobody(root: Path, tmp_path: Path, drawn: list[str]) -> None:
    thin, patients = tmp_path / "thin-exams", ("georgette", "hieronymus")
    for seed, name in enumerate(patients):
        slices = [body(40, seed=7, smooth=2, texture=300, radius=0.5 + 0.01 * i) for i in range(30 if seed else 8)]
        uid = derived_uid("thin", name)
        save_series(thin / name / "s", slices, series=uid, step=1.0, SliceThickness=1.0, PatientID=f"PID {name}")
    path = save_slice_model(tmp_path / "z" / "best.pth", {"train": ("x",), "val": (), "test": ()})
    model = load_model_under_test(str(path), device="cpu", kind="between slices")
    wanted = EvaluateOptions(
        root=(thin,),
        output_dir=tmp_path / "out",
        through_plane=True,
        thickness=(3.0,),
        distance=(3.0,),
        planes=2,
        metrics=("PSNR",),
        no_names=True,
    )
    found = evaluate_through_plane([model], wanted)
    assert {row.slice.patient_id for row in found.rows} == {pseudonym("hieronymus")}
    assert [record.problem for record in found.records if record.problem], "the other has too few slices"
    secrets = [*patients, *(derived_uid("thin", name) for name in patients), thin.name]
    assert pseudonym("hieronymus") in "\n".join(drawn)
    assert_nameless(wanted.output_dir, secrets, drawn)


def test_lesions_between_slices_are_put_where_they_are_with_names(tmp_path: Path) -> None:
    slices = [body(64, seed=7, smooth=2, texture=30, radius=0.8) for _ in range(24)]
    save_series(tmp_path / "exams/georgette/s", slices, series="1.2.7", step=1.0, SliceThickness=1.0)
    path = save_slice_model(tmp_path / "z" / "best.pth", {"train": ("x",), "val": (), "test": ()})
    model = load_model_under_test(str(path), device="cpu", kind="between slices")
    wanted = EvaluateOptions(
        root=(tmp_path / "exams",),
        output_dir=tmp_path / "out",
        through_plane=True,
        hallucination=True,
        thickness=(3.0,),
        distance=(3.0,),
        planes=1,
        metrics=("MAE",),
        no_plots=True,
    )
    found = [evaluate_through_plane([model], replace(wanted, no_names=hidden)) for hidden in (False, True)]
    named, hashed = ([trial.lesion for trial in each.records[0].lesions] for each in found)
    assert named == hashed
    assert named
