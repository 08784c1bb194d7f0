import json
from pathlib import Path

import pytest

from ctsr.degrade import Degradation, DegradationSampler
from ctsr.errors import CtsrError, DomainError, MissingInputError, ReadError, UsageError
from ctsr.viewer.samplers import RecordedSampler, SettingRegistry, check_blur, read_summary, with_changes

BASE = DegradationSampler(Degradation(), "volume", 42)


def test_a_wish_fixes_a_value_and_leaves_the_others() -> None:
    made = with_changes(BASE, {"sigma": 0.75, "deg_seed": 7, "sampling": "slice", "dose": None})
    assert made.degradation.sigma_range == (0.75, 0.75)
    assert (made.deg_seed, made.sampling) == (7, "slice")
    assert made.degradation.dose_factor_range == BASE.degradation.dose_factor_range
    assert made.draw("p", "s", "1", 0).params.blur_sigma == 0.75


def test_wishes_that_change_nothing_give_what_was_there() -> None:
    assert with_changes(BASE, {"mode": "blurnoise", "deg_seed": 42, "sampling": "volume"}) is BASE
    recorded = RecordedSampler(BASE.degradation, "volume", 42)
    assert with_changes(recorded, {"mode": "blurnoise", "sigma": None}) is recorded
    assert type(with_changes(recorded, {"deg_seed": 1})) is DegradationSampler, "what was recorded holds no longer"


@pytest.mark.parametrize(
    "wishes",
    [
        {"mode": "fog"},
        {"sampling": "never"},
        {"sigma": -1},
        {"dose": 2},
        {"noise": "much"},
        {"deg_seed": 1.5},
        {"deg_seed": -1},
        {"colour": 1},
        {"sigma": True},
    ],
)
def test_a_wish_that_cannot_be_is_one_line(wishes: dict) -> None:
    with pytest.raises((UsageError, DomainError)):
        with_changes(BASE, wishes)


def test_a_number_means_one_degradation_for_ever() -> None:
    settings = SettingRegistry(BASE)
    first = settings.add(with_changes(BASE, {"sigma": 0.5}))
    assert settings.add(with_changes(BASE, {"sigma": 0.5})) is first
    assert settings.add(BASE) is settings[0]
    numbers = {settings.add(with_changes(BASE, {"deg_seed": seed})).number for seed in range(40)}
    assert len(numbers) == 40
    assert first.number not in numbers
    assert settings[0].sampler is BASE, "what was started with is never forgotten"
    with pytest.raises(UsageError, match="load the page again"):
        settings[first.number]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"patients": ["a"], "window": 3}'])
def test_a_file_that_is_no_summary_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(ReadError, match="is no summary"):
        read_summary(path)


def test_a_summary_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such file"):
        read_summary(tmp_path / "summary.json")


def test_a_summary_with_an_impossible_value_is_refused(tmp_path: Path) -> None:
    drawn = {"sigma": 0.8, "kernel": 4, "noise_sigma": 0.002, "dose": 0.3}
    document = {
        "patients": ["a"],
        "window": {"center": 40, "width": 400, "tag": "t"},
        "model": {"sha256": "0"},
        "degradation": Degradation().as_dict(),
        "degradation_sampling": "volume",
        "deg_seed": 42,
        "deg_seed_mode": "per_patient",
        "patient_to_degradation_sampled": {"a": {"by_series": {"1.2": drawn}}},
    }
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(document))
    with pytest.raises(CtsrError, match="odd number"):
        read_summary(path)


@pytest.mark.parametrize(("sigma", "kernel"), [(1e9, 7), (0.8, 10**9 + 1), (float("inf"), 7), (float("nan"), 7)])
def test_a_blur_that_no_image_needs_is_refused(sigma: float, kernel: int) -> None:
    with pytest.raises(DomainError, match="must be at most"):
        check_blur(sigma, kernel)
