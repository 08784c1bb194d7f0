import csv
import json
import shutil
from pathlib import Path

import pydicom
import pytest

from ctsr.cli.main import COMMANDS, main, parse
from ctsr.degrade import Degradation
from tests.made.exams import NAMES, save_patients
from tests.made.model import save_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patients(tmp_path_factory.mktemp("exams"), slices=2, size=45)


@pytest.fixture
def evaluated(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`ctsr evaluate` in a folder with one run, on the CPU and without plots."""
    monkeypatch.chdir(tmp_path)
    save_model(Path("runs/rrdb_x2_blurnoise_20250912-114004/best.pth"))

    def evaluated(*flags: str) -> int:
        return main(["evaluate", "--root", str(root), "--store", "store", "--device", "cpu", "--no_plots", *flags])

    return evaluated


def summary() -> dict:
    (path,) = Path("eval_results").glob("*/summary.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_it_prints_the_means_and_ends_with_the_folder(evaluated, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated("--split", "val") == 0
    out, err = capsys.readouterr()
    (folder,) = Path("eval_results").iterdir()
    assert out.splitlines()[-1] == f"Results: {folder}"
    assert "Means over 2 patients (4 slices)" in out
    assert "the newest run" in err
    (bicubic,) = (line for line in out.splitlines() if line.startswith("Interpolation (Bicubic)"))
    (model,) = (line for line in out.splitlines() if line.startswith("Model (RRDB)"))
    assert bicubic.count("*") >= 6, "bicubic beats a model that was never trained"
    assert model.count("*") == 0


def test_flags_are_spelled_as_in_the_users_commands() -> None:
    words = (
        "--root preprocessed_data --split test --model_path runs/x/best.pth --device cuda --scale 2 "
        "--hu_clip -1000 2000 --degradation blurnoise --noise_sigma_range_norm 0.001 0.003 "
        "--dose_factor_range 0.25 0.5 --blur_sigma_range 0.7 0.9 --blur_kernel 5 --degradation_sampling det-slice "
        "--deg_seed 42 --deg-seed-mode global --seed 42 --max_patients 3 --max_slices_per_patient 20 "
        "--slice_sampling random --preset soft_tissue --window_center 40 --window_width 400 --antialias_clean "
        "--split_json ESRGAN\\splits\\s.json --flat_names --output_dir out"
    )
    options = parse(COMMANDS["evaluate"], words.split(), prog="ctsr evaluate")
    given = options.degradation.over(Degradation())
    assert given == Degradation("blurnoise", 2, (0.7, 0.9), 5, (0.001, 0.003), (0.25, 0.5), antialias_clean=True)
    assert options.options.hu_clip == (-1000, 2000)
    assert (options.options.degradation_sampling, options.options.deg_seed_mode) == ("det-slice", "global")


def test_a_flag_that_contradicts_the_checkpoint_wins_with_a_warning(
    evaluated, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated("--dose_factor_range", "0.1", "0.1", "--noise_sigma_range_norm", "0.001", "0.003") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "--dose_factor_range 0.1 0.1 (checkpoint: 0.25 0.5)" in warnings[0]
    assert summary()["patient_to_degradation_sampled"]["emil"]["dose"] == 0.1


def test_naming_the_checkpoints_own_degradation_changes_nothing(evaluated) -> None:
    """The long command of the overview is equal to the short one."""
    assert evaluated("--output_dir", "short") == 0
    long = "--scale 2 --hu_clip -1000 2000 --degradation blurnoise --noise_sigma_range_norm 0.001 0.003"
    assert evaluated("--output_dir", "long", *long.split(), "--dose_factor_range", "0.25", "0.5", "--seed", "42") == 0
    (one,), (other,) = (list(Path(name).glob("*/metrics.csv")) for name in ("short", "long"))
    assert one.read_bytes() == other.read_bytes()


EVERY_FLAG = (
    "--preset lung --window_width 1400 --hu_clip -1024 1500.5 --degradation blur --blur_sigma_range 0.5 0.6 "
    "--blur_kernel 7 --noise_sigma_range_norm 1e-05 0.002 --dose_factor_range 0.3 0.4 --max_patients 1 "
    "--max_slices_per_patient 1 --seed 3 --deg_seed 5 --deg_seed_mode global --degradation_sampling slice "
    "--allow_train_patients --flat_names --scale 2 --assume_hu"
)


@pytest.mark.parametrize(
    "flags", ["", "--degradation clean --antialias_clean", "--degradation clean --no_antialias_clean", EVERY_FLAG]
)
def test_the_config_beside_the_results_repeats_the_evaluation(evaluated, flags: str) -> None:
    assert evaluated(*flags.split()) == 0
    (first,) = (path.parent for path in Path("eval_results").glob("*/config.json"))
    assert main(["evaluate", "--config", str(first / "config.json"), "--output_dir", "again"]) == 0
    (second,) = (path.parent for path in Path("again").glob("*/config.json"))
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()
    settings, again = (json.loads((path / "config.json").read_text(encoding="utf-8")) for path in (first, second))
    assert again == settings | {"output_dir": "again"}


@pytest.mark.parametrize("words", ["--root one two", "--root one --root two"])
def test_several_roots_may_follow_one_flag_or_each_its_own(evaluated, root: Path, words: str) -> None:
    for place, names in (("one", NAMES[:4]), ("two", NAMES[4:])):
        for name in names:
            shutil.copytree(root / name, Path(place) / name)
    flags = ["--store", "store", "--device", "cpu", "--no_plots"]
    assert main(["evaluate", *words.split(), *flags]) == 0
    assert summary()["paths"]["root"] == ["one", "two"]
    assert summary()["patients"] == ["dora", "emil"]
    (config,) = Path("eval_results").glob("*/config.json")
    assert main(["evaluate", "--config", str(config), "--output_dir", "again"]) == 0
    (again,) = Path("again").glob("*/metrics.csv")
    assert again.read_bytes() == (config.parent / "metrics.csv").read_bytes()


def test_one_root_is_named_in_the_summary_as_it_was_given(evaluated, root: Path) -> None:
    assert evaluated() == 0
    assert summary()["paths"]["root"] == str(root)


def test_rows_can_be_read_by_any_csv_reader(evaluated) -> None:
    assert evaluated("--split", "test") == 0
    (path,) = Path("eval_results").glob("*/metrics.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["patient_id"] for row in rows} == {"fred"}
    assert all(float(row["PSNR"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["--preset", "soft_tiss"], 2, "there are soft_tissue, lung"),
        (["--window_center", "40"], 2, "--window_width"),
        (["--scale", "4"], 2, "--scale 4 does not fit"),
        (["--hu_clip", "2000", "-1000"], 2, "low < high"),
        (["--model_path", "nowhere.pth"], 1, "nowhere.pth"),
        (["--max_patients", "0"], 2, "--max_patients must be at least 1"),
        (["--dose_factor_range", "0.5", "2"], 2, "--dose_factor_range"),
        (["--split_json", "missing.json"], 1, "missing.json"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    evaluated, capsys: pytest.CaptureFixture[str], flags: list[str], status: int, said: str
) -> None:
    assert evaluated(*flags) == status
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert not Path("eval_results").exists()


def test_a_series_that_cannot_be_used_is_counted_and_the_status_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(Path("runs/m/best.pth"))
    save_patients(Path("exams"), slices=2, size=40)
    victim = min(Path("exams/dora").rglob("IM*"))
    ds = pydicom.dcmread(victim)
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.save_as(victim)
    status = main(["evaluate", "--root", "exams", "--store", "store", "--device", "cpu", "--no_plots"])
    out, err = capsys.readouterr()
    assert status == 1
    assert any(line.startswith("error: ") and "dora" in line for line in err.splitlines())
    assert "1 patient or series could not be used" in err
    assert "Means over 1 patient (2 slices)" in out


def test_a_patient_whose_ct_cannot_be_read_is_named_and_the_status_is_1(
    evaluated, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever he would have been: without his CT he is in no part of a split."""
    exams = Path(shutil.copytree(root, "exams"))
    for path in (exams / "emil").rglob("IM*"):
        path.write_bytes(path.read_bytes()[:800])
    save_model(Path("runs/m/best.pth"), split={"train": ("anna", "bert"), "val": ("dora",), "test": ("fred",)})
    assert evaluated("--root", "exams", "--model_path", "m") == 1
    err = capsys.readouterr().err
    assert any(line.startswith("error: emil: 2 images cannot be used") for line in err.splitlines())
    assert any("emil" in failure for failure in summary()["failures"])
