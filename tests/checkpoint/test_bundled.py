"""The models of the package: small, complete, and what they say they are."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctsr.checkpoint import load_model, resolve_model
from ctsr.checkpoint.files import read_card
from ctsr.checkpoint.model_lookup import BUNDLED, SLICE_MODELS
from ctsr.data.hu_cache import open_series
from ctsr.data.pairs import slice_pair
from ctsr.data.split import Split, read_split
from ctsr.degrade import DegradationSampler
from ctsr.evaluate.methods import ModelUnderTest
from ctsr.exams import scan_patient
from ctsr.hashing import with_names
from ctsr.models.interpolation import interpolate

REPOSITORY = Path(__file__).parents[2]
MOST_BYTES = 4 * 2**20
LEAST_DB = {"ctsr-x2": 3, "ctsr-x2-large": 3, "ctsr-x4": 1}
"""Over bicubic, on a single slice of its own grid."""
models = pytest.mark.parametrize("name", BUNDLED)


@models
def test_a_bundled_model_is_small_and_says_how_it_was_trained(name: str) -> None:
    file = BUNDLED[name].file
    assert file.stat().st_size <= MOST_BYTES
    found = load_model(file)
    assert found.meta is not None
    assert BUNDLED[name].scale == found.scale
    assert found.meta.degradation["mode"] == "blurnoise"
    assert found.meta.card.pixel_spacing_mm is not None


@pytest.mark.parametrize("name", [*BUNDLED, *SLICE_MODELS])
def test_its_card_is_the_page_in_the_documentation(name: str) -> None:
    page = (REPOSITORY / "docs" / "models" / f"{name}.md").read_text(encoding="utf-8")
    assert read_card((dict(BUNDLED) | SLICE_MODELS)[name].file) == page


@models
def test_it_was_trained_on_the_split_of_its_recipe(name: str) -> None:
    meta = load_model(BUNDLED[name].file).meta
    assert meta is not None
    recipe = read_split(REPOSITORY / "recipes" / "split.json")
    # Names of patients are hashes in files that are passed on.
    split = Split.from_dict(with_names(meta.split, [*recipe.train, *recipe.val, *recipe.test]))
    for part in ("train", "val", "test"):
        assert set(getattr(split, part)) == set(getattr(recipe, part))
    assert {"LIDC-IDRI-0001", "C3L-00189"} == set(split.test)
    assert not any(name in str(meta) for name in split.train)
    assert meta.trained_on.isdisjoint(meta.split["test"] + meta.split["val"])


def test_a_bundled_model_is_found_by_its_name_and_said_so() -> None:
    resolved = resolve_model("ctsr-x2")
    assert resolved.path == BUNDLED["ctsr-x2"].file
    assert resolved.note == "model: ctsr-x2, which comes with ctsr"


@models
@pytest.mark.parametrize("patient", ["LIDC-IDRI-0001", "C3L-00189"])
def test_on_a_patient_kept_for_test_it_is_far_closer_to_the_truth_than_bicubic(
    real_ct: Path, tmp_path: Path, name: str, patient: str
) -> None:
    found = load_model(BUNDLED[name].file)
    (series,) = scan_patient(real_ct / "patients" / patient).series
    stored = open_series(replace(series, slices=series.slices[len(series.slices) // 2 :][:1]), tmp_path)
    pair = slice_pair(stored, 0, DegradationSampler(found.degradation), found.hu_range)
    model = ModelUnderTest(found, torch.device("cpu"))
    sr = model.super_resolve(pair.lr, pair.draw.params)
    bicubic = interpolate(pair.lr, found.scale, "bicubic")
    error, theirs = (image.double() - pair.hr.double() for image in (sr, bicubic))
    assert 10 * (theirs.square().mean() / error.square().mean()).log10() > LEAST_DB[name]
    # Low frequencies are LR's, and with them what clipping its noise at the range's lower end added to air.
    assert abs(float(error.mean())) < abs(float(theirs.mean())) + 0.1 / found.hu_range.hu_per_unit
