"""One name a thing: the flags of one command are understood by all that have such a flag."""

import pytest

from ctsr.cli.flags import canonical
from ctsr.cli.main import COMMANDS, options_class
from ctsr.errors import UsageError


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        ("evaluate", "--data_root a b --out_dir o", "--root a b --output_dir o"),
        ("evaluate", "a b --split val", "--root a b --split val"),
        ("train", "--root a --patch=64", "--data_root a --patch_size=64"),
        ("finetune", "exams --patch-size 64 --output-dir o", "--data_root exams --patch 64 --out_dir o"),
        ("preprocess", "exams --output_dir o --jobs 2", "--root exams --out_dir o --workers 2"),
        ("evaluate", "--workers 2 --jobs 3", "--workers 2 --jobs 3"),
        ("upscale", "--root in --out_dir out --model_path m", "in out --model_path m"),
        ("upscale", "in --output_dir=out --no_skip_air", "in out --no_skip_air"),
        ("view", "--data_root p --no_model", "p --no_model"),
        ("scan", "--data_root p", "--root p"),
        ("train", "--num-workers 3", "--num_workers 3"),
        ("preprocess", "--root e --no_antialias", "--root e --no_antialias"),
        ("evaluate", "--window_center -600 --hu_clip -1000 2000", "--window_center -600 --hu_clip -1000 2000"),
    ],
)
def test_flags_of_one_meaning_have_one_name(command: str, words: str, expected: str) -> None:
    assert canonical(words.split(), options_class(COMMANDS[command])) == expected.split()


def test_an_unknown_flag_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown flag --max_patient; did you mean --max_patients"):
        canonical(["--max_patient", "3"], options_class(COMMANDS["evaluate"]))
    with pytest.raises(UsageError, match="unknown flag --zzzzzz; --help lists the flags"):
        canonical(["--zzzzzz"], options_class(COMMANDS["evaluate"]))
