"""`--config`: a file of flags, which the command line wins over, and which reads back what a command wrote."""

import json
from pathlib import Path

import pytest
import yaml

from ctsr.cli.main import COMMANDS, main, parse
from ctsr.cli.options import resolved
from ctsr.errors import MissingInputError, UsageError
from ctsr.train import continued
from tests.made.exams import NAMES, save_patient, save_patients

REQUIRED = {"preprocess": ["--root", "exams"]}
"""What a command does not run without."""
WORDS = {
    "blend": {"first": "a.pth", "second": "b.pth"},
    "weights": {"action": "fetch", "names": "vgg16"},
    "cache": {"action": "clean", "parts": "store"},
}
"""What a command takes as words of the command line, which no file can give."""


def options(command: str, *words: str):
    return parse(COMMANDS[command], list(words), prog=f"ctsr {command}")


@pytest.fixture
def config(tmp_path: Path):
    def config(text: str) -> str:
        path = tmp_path / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return config


def test_a_file_gives_values_of_every_kind(config) -> None:
    text = "hu_clip: [-1024, 3071]\nflat_names: true\nmax_patients: 3\npreset: lung\nstore: some/where\n"
    found = options("evaluate", "--config", config(text)).options
    assert (found.hu_clip, found.flat_names, found.max_patients) == ((-1024, 3071), True, 3)
    assert (found.preset, found.store) == ("lung", Path("some/where"))


def test_flags_win_over_the_file_wherever_they_stand(config) -> None:
    path = config("target_spacing: 0.5\nantialias: false\nworkers: 3\nroot: there\n")
    for words in (["--config", path, "--target_spacing", "1", "--antialias"], ["--target-spacing=1", "--antialias"]):
        found = options("preprocess", *words, f"--config={path}")
        assert (found.target_spacing, found.antialias, found.workers) == (1.0, True, 3)
    assert not options("preprocess", "--config", path).antialias


def test_a_list_on_the_command_line_replaces_the_files(config) -> None:
    path = config("data_root: [a, b]\ndose_factor_range: [0.1, 0.2]\n")
    assert options("train", "--config", path).train.data_root == (Path("a"), Path("b"))
    found = options("train", "--config", path, "--data_root", "c", "--dose_factor_range", "0.3", "0.4")
    assert found.train.data_root == (Path("c"),)
    assert found.degradation.dose_factor_range == (0.3, 0.4)


def test_a_flag_that_is_given_twice_adds_roots() -> None:
    found = options("train", "--data_root", "a", "--seed", "1", "--data-root", "b", "c", "--data_root=d")
    assert found.train.data_root == tuple(map(Path, "abcd"))
    assert found.train.seed == 1


def test_hyphens_are_as_good_as_underscores(config) -> None:
    assert options("evaluate", "--config", config("max-patients: 3\n")).options.max_patients == 3
    assert options("evaluate", "--max-patients", "3").options.max_patients == 3


def test_an_empty_value_is_as_if_left_out(config) -> None:
    assert options("evaluate", "--config", config("max_patients:\n")).options.max_patients is None


@pytest.mark.parametrize(
    ("key", "hint"), [("max_patient", "; the nearest known one is 'max_patients'"), ("zzz", ""), ("config", "")]
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(config, key: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"unknown key '{key}'{hint}$"):
        options("evaluate", "--config", config(f"{key}: 3\n"))


@pytest.mark.parametrize("text", ["just words", "- a\n- b\n", "a: [1\n", ""])
def test_a_file_that_is_no_list_of_flags_is_an_error_of_one_line(config, text: str) -> None:
    with pytest.raises(
        UsageError, match=r"settings\.yaml: (expected lines of `flag: value`|not readable as YAML)"
    ) as it:
        options("evaluate", "--config", config(text))
    assert "\n" not in str(it.value)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_a_file_in_another_encoding_is_an_error_of_one_line(
    tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("root: Büro/Schädel\n", encoding=encoding)
    assert main(["evaluate", "--config", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --config {path}: not readable as YAML in UTF-8: ")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_at_the_beginning_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    """As editors and shells on Windows write."""
    path = tmp_path / "settings.yaml"
    path.write_text("root: Büro\n", encoding=encoding)
    assert options("evaluate", "--config", str(path)).options.root == (Path("Büro"),)


def test_values_are_the_text_that_they_are_as_on_the_command_line(config) -> None:
    """As YAML has numbers, 0117 was the folder 79, slices 10:20 were 620, and 042 was a seed of 34."""
    found = options("upscale", "IN", "OUT", "--config", config("slices: 10:20\nonly: 0117\nseries: 1.20\nnames: no\n"))
    assert (found.options.slices, found.options.only, found.options.series) == ("10:20", "0117", "1.20")
    assert not found.options.names
    split = options("split", "--config", config("seed: 042\nroot: [007, 1_000]\nout_dir: 2025-13-45\n"))
    assert (split.seed, split.root, split.out_dir) == (42, (Path("007"), Path("1_000")), Path("2025-13-45"))
    assert options("train", "--config", config("lr: 1e-5\nhr_reduction: [1, 2.0]\n")).train.lr == 1e-5
    assert options("node", "--config", config("aet: ON\n")).node.aet == "ON"


def test_a_switch_is_true_or_false(config) -> None:
    for word in ("true", "'false'", "Yes", "off"):
        found = options("upscale", "IN", "OUT", "--config", config(f"picture: {word}\n"))
        assert found.options.picture == (word in {"true", "Yes"})
    with pytest.raises(UsageError, match="'picture' is true or false, got '3'"):
        options("upscale", "IN", "OUT", "--config", config("picture: 3\n"))
    with pytest.raises(UsageError, match="'root' is neither a value nor a list of some"):  # a folder called None
        options("split", "--config", config("root: [a, null]\n"))


def test_one_file_is_read_and_a_second_one_is_not_passed_over(config, tmp_path: Path) -> None:
    first = config("seed: 1\n")
    (tmp_path / "other.yaml").write_text("seed: 2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="put all flags into one file"):
        options("split", "--config", first, f"--config={tmp_path / 'other.yaml'}")


def test_a_switch_that_was_turned_off_was_given(config) -> None:
    """`--no_augment` was dropped beside `--resume`: the run went on as it was."""
    found = options("train", "--no_augment", "--no_plots", "--lr", "1")
    assert found.common.given == {"augment", "no_plots", "lr"}
    assert options("train", "--config", config("augment: false\n")).common.given == {"augment", "config"}
    with pytest.raises(UsageError, match="`augment` False does not fit the run"):
        continued(found.train, {"augment": True, "lr": 1.0}, found.common.given)


@pytest.mark.parametrize(("command", "line"), [("evaluate", "debug: true"), ("scan", "folder: exams")])
def test_what_only_the_command_line_can_give_is_refused_in_a_file(
    config, command: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = line.split(":")[0]
    assert main([command, "--config", config(line)]) == 2
    assert f"{key!r} cannot be set in a file; give it on the command line" in capsys.readouterr().err
    with pytest.raises(UsageError, match="unknown key 'given'"):
        options(command, "--config", config("given: [a]"))


@pytest.mark.parametrize("words", [["--config", "nowhere.yaml"], ["--config=nowhere.yaml"]])
def test_a_missing_file_is_an_error_that_names_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingInputError, match=r"--config nowhere\.yaml"):
        options("evaluate", *words)
    assert main(["evaluate", *words]) == 1
    assert capsys.readouterr().err == "error: --config nowhere.yaml: no such file\n"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
def test_what_a_verb_writes_beside_its_results_can_be_given_to_it_again(config, command: str, write) -> None:
    words = WORDS.get(command, {})
    given = options(command, *words.values(), *REQUIRED.get(command, []))
    written = {name: value for name, value in resolved(given).items() if name not in words}
    again = options(command, *words.values(), "--config", config(write(written)))
    assert resolved(again) == resolved(given)


@pytest.mark.parametrize("clean", ["--antialias_clean", "--no_antialias_clean", ""])
def test_what_a_training_writes_can_be_given_to_train_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: str
) -> None:
    """To the same run: lists, nulls and booleans come back as they were."""
    monkeypatch.chdir(tmp_path)
    save_patients(Path("exams"), NAMES[:3], slices=1, size=40)
    save_patient(Path("more"), "dora", slices=1, size=40, seed=7)
    flags = "--device cpu --epochs 1 --nf 4 --nb 1 --gc 2 --patch_size 32 --batch_size 2 --num_workers 0 --lr 2e-05"
    flags += f" --store store --runs one --micro_batch 2 --degradation clean --augment {clean}"
    assert main(["train", "--data_root", "exams", "more", *flags.split()]) == 0
    (first,) = Path("one").glob("*/config.json")
    assert main(["train", "--config", str(first), "--runs", "two"]) == 0
    (second,) = Path("two").glob("*/config.json")
    written, again = (json.loads(path.read_text(encoding="utf-8")) for path in (first, second))
    assert again == written | {"runs": "two"}
    assert (written["data_root"], written["resume"]) == (["exams", "more"], None)
    assert written["antialias_clean"] is (clean == "--antialias_clean")


def test_a_path_in_windows_spelling_is_this_systems(config) -> None:
    found = options(
        "train", "--config", config("runs: 'D\\runs'\n"), "--data_root", "a\\b", "--split_json", ".\\s.json"
    )
    assert (found.train.runs, found.train.data_root) == (Path("D/runs"), (Path("a/b"),))
    assert found.train.split_json == Path("s.json")


def test_a_key_that_stands_there_twice_is_refused(config) -> None:
    """The last one won without a word."""
    with pytest.raises(UsageError, match="'epochs' stands there twice"):
        options("train", "--config", config("epochs: 3\nseed: 1\nepochs: 4\n"))
