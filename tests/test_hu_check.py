"""Values that are no HU are recognised for what they are; every kind of real CT passes."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctsr.data.datasets import open_exams
from ctsr.errors import DomainError, SeriesError
from ctsr.exams import read_slice, scan
from ctsr.hu import HUCorrection
from ctsr.padding import Verdict, check_hu
from ctsr.series import DefectKind, Series, check
from tests.made.ct import body, chest, ct_slice, padded, save, save_series, slices, store
from tests.made.exams import kinds, save_patients
from tests.made.listener import Listener

CHEST = chest(96, 96).astype(np.float32)
RNG = np.random.default_rng(0)
HEAD = np.where(RNG.random((96, 96)) < 0.05, RNG.uniform(300, 1500, (96, 96)), body(96) + RNG.normal(0, 8, (96, 96)))
"""Soft tissue, some bone, and air around it."""


def windowed(hu: np.ndarray) -> np.ndarray:
    return np.rint(np.clip((hu + 160) / 400 * 255, 0, 255))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (CHEST + 1024, "hu_offset` -1024"),
        (CHEST + 1000, "hu_offset` -10"),
        (np.maximum(CHEST + 1024, 0), "hu_offset` -1024"),
        (CHEST - 1024, "hu_offset` 1024"),
        (CHEST + 8192, "hu_offset` -81"),
        (CHEST / 1000, "as if scaled"),
        (body(64) / 1000, "as if scaled"),  # more than half of it is air of one value, -1
        (body(64) / 1000 + 1, "as if scaled"),
        (np.rint(body(64)) / 500 + 1, "as if scaled"),
        ((CHEST - CHEST.mean()) / CHEST.std(), "as if scaled"),
        (windowed(CHEST), "windowed to 8 bits"),
        (windowed(CHEST) - 1024, "windowed to 8 bits"),
        (np.where(CHEST < 0, CHEST + 65536, CHEST), "sign is lost"),
        (2 * CHEST, "HU × 2"),
        (10 * CHEST, "HU × 10"),
        (np.full((32, 32), 3000.0), "neither air near"),
        (np.rint(np.clip((CHEST + 160) / 400 * 4095, 0, 4095)), "a window has cut them off"),
        (np.clip(CHEST, -160, 240), "windowed to 8 bits"),
        (np.clip(7 * CHEST, -160, 400), "a window has cut them off"),
        (np.where(CHEST < -500, -1, 3.3 * windowed(CHEST)), "a window has cut them off"),
        (np.rint(np.clip((CHEST + 160) / 400 * 4095, 0, 4095)) - 1024, "near soft tissue"),
        (1.5 * (CHEST + 1024) - 1024, "near soft tissue"),
        (3 * (CHEST + 1024) - 1024, "near soft tissue"),
        (1.5 * CHEST, "its slope is wrong"),
        (np.where(CHEST < -900, CHEST + 1024, RNG.normal(1064, 300, CHEST.shape)), "as of bone"),
        (HEAD / 2, "hu_scale` 2"),
        (HEAD / 1.5, "hu_scale` 1.5"),
        (HEAD / 4, "hu_scale` 4"),
        (-1000 - HEAD, "hu_scale` -1"),
        (-1024 - HEAD, "hu_scale` -1"),
        (-1000 - padded(HEAD, -2000), "hu_scale` -1"),
    ],
)
def test_values_that_are_no_hu_are_named(values: np.ndarray, words: str) -> None:
    finding = check_hu(values.astype(np.float32))
    assert finding.verdict is Verdict.IMPLAUSIBLE
    assert words in finding.text


@pytest.mark.parametrize(
    "values",
    [
        CHEST,
        body(64),
        HEAD,
        np.where(CHEST < -900, RNG.normal(-500, 120, CHEST.shape), CHEST),  # a lung in disease that fills the image
        np.full((32, 32), -1000.0),  # above the head
        RNG.normal(0, 60, (64, 64)),  # a water phantom without air
        # A head without air around it: brain, skull, and metal.
        np.concatenate([RNG.normal(35, 8, (64, 50)), RNG.uniform(300, 1900, (64, 12)), np.full((64, 2), 8000)], axis=1),
        np.where(RNG.random((64, 64)) < 0.1, 3071, CHEST[:64, :64]),
        np.zeros((4, 4)),  # too little to tell
    ],
)
def test_what_may_be_hu_is_not_doubted(values: np.ndarray) -> None:
    assert check_hu(values.astype(np.float32)).verdict is Verdict.PLAUSIBLE


def test_a_small_shift_is_doubted_but_not_refused() -> None:
    assert check_hu(CHEST + 200).verdict is Verdict.SHIFTED


def test_bone_cut_off_is_doubted_but_not_refused() -> None:
    finding = check_hu(np.clip(CHEST, -1000, 20))
    assert finding.verdict is Verdict.CUT_OFF
    assert "are 20, and none lies above" in finding.detail


def test_padding_does_not_count() -> None:
    hu, padding = CHEST + 1024, np.zeros(CHEST.shape, np.bool_)
    hu[:20], padding[:20] = -8192, True
    assert "hu_offset` -1024" in check_hu(hu, padding).text


def only(folder: Path, correction: HUCorrection | None = None) -> Series:
    (patient,) = scan(folder, correction=correction or HUCorrection()).usable
    (series,) = patient.series
    return series


def save_volume(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(values.astype(np.float32).T, np.diag([-0.8, -0.8, 2.5, 1])), path)


@pytest.mark.parametrize("scale", [1000.0, 300.0])
def test_a_scaled_volume_is_refused_and_corrected(tmp_path: Path, scale: float) -> None:
    volume = np.stack([CHEST] * 3)
    save_volume(tmp_path / "anna" / "ct.nii", (volume - 20) / scale)
    series = only(tmp_path)
    for command in ("preprocess", "train", "evaluate", "upscale"):
        with pytest.raises(SeriesError, match="as if scaled to −1 … 1"):
            check(series, command)
    assert check(series, "train", assume_hu=True)
    corrected = only(tmp_path, HUCorrection(scale, 20))
    assert DefectKind.IMPLAUSIBLE_HU not in kinds(corrected)
    assert np.abs(read_slice(corrected, 1).hu - CHEST).max() < 0.1


def test_a_lost_intercept_is_refused_and_corrected_and_the_result_says_so(tmp_path: Path) -> None:
    save_series(tmp_path / "anna", [CHEST] * 3, RescaleIntercept=0)
    with pytest.raises(SeriesError, match=r"HU \+102\d; pass `hu_offset` -1024"):
        check(only(tmp_path), "upscale")
    corrected = only(tmp_path, HUCorrection(offset=-1024))
    assert check(corrected, "upscale") == []
    assert np.array_equal(read_slice(corrected, 0).hu, CHEST)
    assert corrected.variant == ("HU x 1.0 + -1024.0",)
    assert corrected.geometry_key != only(tmp_path).geometry_key, "what is made of both is kept apart"


def test_a_correction_serves_a_series_without_rescale(tmp_path: Path) -> None:
    save_series(tmp_path / "anna", [CHEST] * 2, RescaleIntercept=None, RescaleSlope=None)
    assert DefectKind.MISSING_RESCALE in kinds(only(tmp_path))
    corrected = only(tmp_path, HUCorrection(offset=-1024))
    assert check(corrected, "train") == []
    assert np.array_equal(read_slice(corrected, 0).hu, CHEST)


def test_an_8_bit_screen_copy_is_refused(tmp_path: Path) -> None:
    ds = store(ct_slice(CHEST, RescaleIntercept=0), windowed(CHEST), bits=8, allocated=8)
    save(ds, tmp_path / "anna" / "IM1")
    with pytest.raises(SeriesError, match="windowed to 8 bits"):
        check(only(tmp_path), "train")


def test_one_slice_of_another_intercept_is_refused(tmp_path: Path) -> None:
    for i, ds in enumerate(slices([CHEST] * 5)):
        ds.RescaleIntercept = 0 if i == 1 else -1024
        save(ds, tmp_path / "anna" / f"IM{i}")
    series = only(tmp_path)
    assert {DefectKind.DIFFERING_RESCALE, DefectKind.IMPLAUSIBLE_HU} <= kinds(series)
    assert "z = 32.5 mm" in series.defects[-1].detail


@pytest.mark.parametrize("word", ["IODINE", "Z_EFFECTIVE", "MAT_SPECIFIC", "BONE_REMOVED"])
def test_maps_of_materials_are_left_out(tmp_path: Path, word: str) -> None:
    save_series(tmp_path / "anna", [CHEST], ImageType=["DERIVED", "PRIMARY", "AXIAL", word])
    (patient,) = scan(tmp_path).patients
    assert not patient.series
    assert word in patient.excluded[0].reason


def test_corrected_values_have_a_place_of_their_own_in_the_cache(tmp_path: Path) -> None:
    root = save_patients(tmp_path / "raw", ("a", "b", "c"), slices=1, size=40)
    highest: list[int] = []
    for offset in (0.0, 100.0):
        exams = open_exams([root], folder=tmp_path, correction=HUCorrection(offset=offset), progress=Listener())
        (stored,) = exams.part("train", "train", tmp_path / "store").series
        highest.append(int(stored.hu.max()))
    assert highest[1] - highest[0] == 100


@pytest.mark.parametrize(("scale", "offset"), [(0, 0), (float("nan"), 0), (1, float("inf")), (1e9, 0)])
def test_an_impossible_correction_is_refused(scale: float, offset: float) -> None:
    with pytest.raises(DomainError, match="hu_"):
        HUCorrection(scale, offset)


def test_no_real_series_is_refused(real_ct: Path) -> None:
    roots = [real_ct / "more", real_ct / "phantoms", real_ct / "odd"]
    series = [item for root in roots for item in scan(root).all_series()]
    assert len(series) > 20
    assert [item.path for item in series if DefectKind.IMPLAUSIBLE_HU in kinds(item)] == []


def test_no_single_image_of_a_scanner_is_said_to_be_shifted(real_ct: Path) -> None:
    """Among them lungs in deep inspiration whose air is padding."""
    series = list(scan(real_ct / "singles").all_series())
    assert len(series) > 20
    assert [item.path for item in series if DefectKind.SHIFTED_HU in kinds(item)] == []


@pytest.mark.parametrize(
    ("scale", "offset", "least"), [(0.5, 0, 0.85), (1 / 1.5, 0, 0.85), (-1, -1000, 0.85), (1, 1024, 0.95)]
)
def test_real_slices_that_were_scaled_or_inverted_are_mostly_found(
    real_ct: Path, scale: float, offset: float, least: float
) -> None:
    found: list[bool] = []
    for root in ("patients", "more", "thin", "singles"):
        for series in scan(real_ct / root).all_series():
            pixels = read_slice(series, len(series.slices) // 2)
            finding = check_hu((pixels.hu * scale + offset).astype(np.float32), pixels.padding)
            found.append(finding.verdict is Verdict.IMPLAUSIBLE)
    assert np.mean(found) >= least
