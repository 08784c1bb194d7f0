"""What bundled models are trained with: a configuration that `ctsr train` takes, and no image of a test patient."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from recipes.train import MODELS

from ctsr.checkpoint.model_lookup import BUNDLED, SLICE_MODELS
from ctsr.cli.main import COMMANDS, parse
from ctsr.cli.training import Train
from ctsr.data.split import read_split

RECIPES = Path(__file__).parents[1] / "recipes"
TEST, VALIDATION = {"C3L-00189", "LIDC-IDRI-0001"}, {"LungFCP-01-0001"}
TRUTH_BETWEEN_SLICES = "LIDC-IDRI-0314"


def listed() -> list[dict[str, str]]:
    with (RECIPES / "slices.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_the_patients_kept_for_test_and_validation_are_in_no_other_part() -> None:
    split = read_split(RECIPES / "split.json")
    assert (set(split.test), set(split.val)) == (TEST, VALIDATION)
    assert len(split.train) == 78


def test_the_list_of_images_names_every_patient_of_its_parts_and_no_test_patient() -> None:
    split, rows = read_split(RECIPES / "split.json"), listed()
    assert {row["patient"] for row in rows if row["part"] == "train"} == set(split.train)
    assert {row["patient"] for row in rows if row["part"] == "val"} == set(split.val)
    assert {row["part"] for row in rows} == {"train", "val"}
    assert len({row["sop_instance_uid"] for row in rows}) == len(rows)


def test_between_slices_the_truth_of_the_bounds_is_kept_out_as_well() -> None:
    split, in_plane = read_split(RECIPES / "split-z.json"), read_split(RECIPES / "split.json")
    assert set(split.test) == {*TEST, TRUTH_BETWEEN_SLICES}
    assert split.val == in_plane.val
    assert set(split.train) == set(in_plane.train) - {TRUTH_BETWEEN_SLICES}


def test_every_bundled_model_has_its_recipe() -> None:
    assert set(MODELS) == {*BUNDLED, *SLICE_MODELS}


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_is_a_configuration_of_its_command(recipe: Path) -> None:
    model, command = recipe.stem.split(".")
    found = parse(COMMANDS[command], ["--config", str(recipe), "--data_root", "a", "b"], prog=f"ctsr {command}")
    assert isinstance(found, Train)
    options = found.train
    assert options.ema > 0
    if options.through_plane:
        assert options.split_json == Path("recipes/split-z.json")
        return
    assert options.conditional
    assert options.split_json == Path("recipes/split.json")
    assert options.augment
    assert options.scale == BUNDLED[model].scale


def test_the_command_gives_the_committed_list(real_ct: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "recipes.slices", str(real_ct)],
        capture_output=True,
        text=True,
        check=True,
        cwd=RECIPES.parent,
    )
    assert done.stdout == (RECIPES / "slices.csv").read_text(encoding="utf-8")
