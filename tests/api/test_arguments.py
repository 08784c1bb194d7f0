"""What callers hand over: images that are no HU, spacings in another unit or order, words that there are not."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread

import ctsr
from ctsr.checkpoint import Model
from ctsr.errors import CtsrError, DomainError, UsageError
from ctsr.evaluate import EvaluateOptions
from ctsr.reporting import SILENT
from ctsr.viewer import ViewOptions
from ctsr.volume import Volume
from tests.made.ct import body, save_series
from tests.upscale.conftest import bilinear, bilinear_path

__all__ = ["bilinear", "bilinear_path"]

SIDE = 64
MM = (2.5, 0.8, 0.8)


@pytest.fixture(scope="module")
def hu() -> npt.NDArray[np.float32]:
    """Three slices of a body with noise, in whole HU."""
    noise = np.random.default_rng(0).normal(0, 15, (3, SIDE, SIDE))
    whole = np.rint(np.stack([body(SIDE, seed=i, smooth=1.5, texture=60) for i in range(3)]) + noise)
    return np.maximum(whole, -1000).astype(np.float32)


def preprocessed(image: npt.ArrayLike, spacing: object = MM) -> object:
    return ctsr.preprocess(np.asanyarray(image), spacing=spacing, target_spacing=1.0)  # type: ignore[call-overload]


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<f2", ">f4", "<f8", "longdouble"])
def test_numbers_of_every_type_and_order_give_the_same(hu: npt.NDArray[np.float32], dtype: str) -> None:
    image = hu if dtype != "u1" else np.clip(hu, 0, 255)
    expected = preprocessed(image)
    np.testing.assert_array_equal(preprocessed(image.astype(dtype)), expected)
    np.testing.assert_array_equal(preprocessed(np.asfortranarray(image.astype(dtype))), expected)


@pytest.mark.parametrize("dtype", [np.bool_, np.complex64, np.object_, np.str_])
def test_what_is_no_real_number_is_refused(hu: npt.NDArray[np.float32], dtype: type) -> None:
    with pytest.raises(DomainError, match="real numbers"):
        preprocessed(hu.astype(dtype))
    volume = Volume.from_array(hu, MM)
    with pytest.raises(DomainError, match="real numbers"):
        replace(volume, hu=hu.astype(dtype))


def test_a_volume_of_whole_numbers_is_one_of_float32(hu: npt.NDArray[np.float32], bilinear: Model) -> None:
    volume = Volume.from_array(hu, MM)
    fine = ctsr.upscale(volume, model=bilinear, engine="torch").hu
    for dtype in (np.int16, np.float64):
        other = replace(volume, hu=hu.astype(dtype))
        assert other.hu.dtype == np.float32
        np.testing.assert_array_equal(ctsr.upscale(other, model=bilinear, engine="torch").hu, fine)


def test_nan_is_refused_wherever_it_gets_in(hu: npt.NDArray[np.float32]) -> None:
    volume = Volume.from_array(hu.copy(), MM)
    with pytest.raises(DomainError, match="NaN"):
        replace(volume, hu=np.where(hu > 0, np.nan, hu))
    volume.hu[1, 2, 3] = -math.inf  # an array can be changed under the volume
    for call in (lambda: ctsr.degrade(volume), lambda: ctsr.upscale(volume), lambda: ctsr.metrics(volume, hu)):
        with pytest.raises(DomainError, match="NaN or infinity"):
            call()


def test_what_a_masked_array_masks_is_padding(hu: npt.NDArray[np.float32]) -> None:
    mask = np.zeros(hu.shape, np.bool_)
    mask[:, :5] = True
    given = np.where(mask, np.nan, hu)
    volume = Volume.from_array(np.ma.masked_array(given, mask), MM)
    for made in (volume, Volume.from_array(np.where(mask, 7, hu), MM, padding=mask)):
        np.testing.assert_array_equal(made.padding, mask)
        np.testing.assert_array_equal(made.hu, np.where(mask, -1000, hu))
    np.testing.assert_array_equal(
        ctsr.preprocess(np.ma.masked_array(given, mask), spacing=MM, target_spacing=1.0),
        ctsr.preprocess(volume, target_spacing=1.0).hu,
    )
    with pytest.raises(DomainError, match="padding mask"):
        Volume.from_array(hu, MM, padding=mask[:, :9])


@pytest.mark.parametrize(
    ("spacing", "why"),
    [
        ((math.nan, 0.8, 0.8), "finite"),
        ((2.5, math.inf, 0.8), "finite"),
        ((0.0025, 0.0008, 0.0008), "in mm"),  # metres
        ((2.5, 80, 80), "field of view"),
        ((2500, 0.8, 0.8), "in mm"),
        (0.8, "one for each axis"),
        ((2.5, "wide", 0.8), "one for each axis"),
        ((2.5, 0.8), "each of 3 axes"),
    ],
)
def test_a_spacing_that_no_scanner_has_is_refused(hu: npt.NDArray[np.float32], spacing: object, why: str) -> None:
    with pytest.raises(DomainError, match=why):
        preprocessed(hu, spacing)


def heard(call: Callable[[], object]) -> list[str]:
    """The Python warnings of a call, each of which points here."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    assert {warning.filename for warning in found} <= {__file__}
    return [str(warning.message) for warning in found]


def test_a_spacing_in_another_order_is_warned_about(hu: npt.NDArray[np.float32]) -> None:
    assert any("order of the array's axes" in line for line in heard(lambda: preprocessed(hu, (0.8, 0.8, 2.5))))
    assert heard(lambda: preprocessed(hu)) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda hu: hu + 1024, r"as in HU \+10|cut them off"),
        (lambda hu: hu / 1000, "scaled to"),
        (lambda hu: (hu - hu.mean()) / hu.std(), "scaled to"),
        (lambda hu: np.rint(np.clip((hu + 160) / 400, 0, 1) * 255), "8 bits"),
    ],
)
def test_values_that_are_no_hu_are_warned_about(
    hu: npt.NDArray[np.float32], change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], what: str
) -> None:
    import re

    for call in (
        lambda: ctsr.degrade(change(hu)),
        lambda: preprocessed(change(hu)),
        lambda: ctsr.metrics(change(hu)[0], change(hu)[0]),
        lambda: ctsr.degrade(Volume.from_array(change(hu), MM)),
    ):
        assert any(re.search(what, line) for line in heard(call)), what
    assert heard(lambda: ctsr.degrade(hu)) == []


def test_warnings_of_the_work_are_python_warnings_unless_progress_hears_them(tmp_path: Path) -> None:
    thick = Volume.from_array(np.stack([body(32, seed=i, smooth=1.5) for i in range(3)]), (20, 3, 3))
    assert any("was trained on" in line for line in heard(lambda: ctsr.upscale(thick, slice_spacing=1, engine="torch")))
    assert heard(lambda: ctsr.upscale(thick, slice_spacing=1, engine="torch", progress=SILENT)) == []
    thick.hu[1, 15:18, 15:18] = 2500
    for option in ({"slice_spacing": 10.0}, {"model": "ctsr-x2"}):
        lines = heard(lambda option=option: ctsr.upscale(thick, engine="torch", **option))
        assert any("1 slice with values above 2000 HU" in line for line in lines)
    strong = heard(lambda: ctsr.upscale(thick, slice_spacing=10, strength="strong", consistent=True, engine="torch"))
    assert any("`strength`, `consistent`: no effect without a model in plane" in line for line in strong)
    slices = save_series(tmp_path / "EXAMS" / "anna", [body(32, seed=i) for i in range(4)])
    slices[1].write_bytes(slices[1].read_bytes()[:-99])
    assert any("unreadable" in line for line in heard(lambda: ctsr.preprocess(slices[0].parents[1], tmp_path / "out")))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda image: ctsr.upscale(image, spacing=MM, strength="strongest"), "strength"),
        (lambda image: ctsr.metrics(image, image, mask="bodies"), "mask"),
        (lambda image: ctsr.evaluate(image, mask="bodies"), "mask"),
        (lambda image: ctsr.evaluate(image, baselines=("linear",)), "baselines"),
        (lambda _: ctsr.evaluate("EXAMS", "out", windows="lung"), "windows"),
        (lambda _: ctsr.evaluate("EXAMS", "out", split="tests"), "split"),
        (lambda _: EvaluateOptions(mask=("body", "bones")), "mask"),  # type: ignore[arg-type]
        (lambda _: EvaluateOptions(precision="fp64"), "precision"),  # type: ignore[arg-type]
        (lambda _: ViewOptions(plane="coronary"), "plane"),  # type: ignore[arg-type]
        (lambda _: ViewOptions(baselines="linear"), "baselines"),  # type: ignore[arg-type]
    ],
)
def test_a_word_that_there_is_not_is_refused(
    hu: npt.NDArray[np.float32], call: Callable[[object], object], name: str
) -> None:
    with pytest.raises(UsageError, match=f"`{name}`"):
        call(hu)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda _: ctsr.upscale("EXAMS", "out", spacing=MM), "spacing"),
        (lambda image: ctsr.upscale(image, spacing=MM, overwrite=True, engine="torch"), "overwrite"),
        (lambda _: ctsr.preprocess("EXAMS", "out", spacing=MM), "spacing"),
        (lambda image: ctsr.preprocess(Volume.from_array(image, MM), "out.nii.gz"), "out"),
        (lambda image: ctsr.preprocess(image, spacing=MM, workers=2), "workers"),
        (lambda _: ctsr.evaluate("EXAMS", "out", spacing=MM), "spacing"),
        (lambda image: ctsr.evaluate(image, "out"), "out"),
        (lambda image: ctsr.evaluate(image, split="test", max_patients=None), "split`, `max_patients"),
    ],
)
def test_an_argument_without_effect_is_refused(
    hu: npt.NDArray[np.float32], call: Callable[[object], object], name: str
) -> None:
    """`preprocess` of a volume wrote nothing where it was told to, without a word."""
    with pytest.raises(UsageError, match=f"^`{name}`: only where `source` is an? (array|folder)$"):
        call(hu)


def test_one_metric_is_asked_for_by_its_name(hu: npt.NDArray[np.float32]) -> None:
    assert ctsr.metrics(hu, hu + 5, names="BIAS_HU")["BIAS_HU"] == pytest.approx(-5, abs=1e-3)
    with pytest.raises(CtsrError, match="EXAMS"):  # not of metrics called B, I, A and S
        ctsr.evaluate("EXAMS", "out", names="BIAS_HU")


def centre_of_mass(volume: Volume) -> npt.NDArray[np.float64]:
    """LPS position in mm, of one slice."""
    weights = volume.hu[0].astype(np.float64)
    rows, columns = np.indices(weights.shape)
    row, column = (rows * weights).sum() / weights.sum(), (columns * weights).sum() / weights.sum()
    return np.array(volume.grid.position((0, row, column)))


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("shape", [(64, 64), (65, 66), (67, 65), (64, 67)])
def test_degraded_images_stay_where_they_were(shape: tuple[int, int], scale: int) -> None:
    rows, columns = np.indices(shape)
    spot = 1000 * np.exp(-((rows - 30) ** 2 + (columns - 33) ** 2) / 50)
    volume = Volume.from_array(spot[None], (1, 1, 1.5), origin=(-20, 7, 3))
    lr = ctsr.degrade(volume, scale=scale, degradation="clean")
    np.testing.assert_allclose(centre_of_mass(lr), centre_of_mass(volume), atol=0.01)


def test_volumes_that_lie_elsewhere_are_not_compared(hu: npt.NDArray[np.float32]) -> None:
    volume = Volume.from_array(hu, MM)
    moved = replace(volume, grid=replace(volume.grid, origin=(0.5, 0, 0)))
    coarser = replace(volume, grid=replace(volume.grid, spacing=(2.5, 0.8, 0.81)))
    for other in (moved, coarser):
        with pytest.raises(DomainError, match="mm apart"):
            ctsr.metrics(other, volume)
        assert ctsr.metrics(other.hu, volume)["MAE_HU"] == pytest.approx(0, abs=1e-3)
    fine = ctsr.upscale(ctsr.degrade(volume, degradation="clean"), engine="torch")
    assert ctsr.metrics(fine, volume)["PSNR"] is not None


@pytest.fixture
def source(tmp_path: Path, hu: npt.NDArray[np.float32]) -> Path:
    save_series(tmp_path / "exams" / "P1" / "s", list(hu.astype(np.int16)))
    return tmp_path / "exams" / "P1" / "s"


def test_a_volume_is_written_only_where_its_slices_lie(source: Path, tmp_path: Path) -> None:
    volume = ctsr.read_volume(source)
    grid = volume.grid
    elsewhere = [
        Volume.from_array(volume.hu, grid.spacing),  # its origin was lost
        replace(volume, grid=replace(grid, origin=(grid.origin[0] + 900, *grid.origin[1:]))),
        replace(volume, grid=replace(grid, spacing=(grid.spacing[0] * 2, *grid.spacing[1:]))),
        replace(volume, grid=replace(grid, directions=((0, 0, -1), (0, 1, 0), (1, 0, 0)))),
    ]
    for wrong in elsewhere:
        with pytest.raises(DomainError, match="of `like`"):
            ctsr.write_series(wrong, tmp_path / "out", like=source)
    assert not (tmp_path / "out").exists()
    for right in (ctsr.preprocess(volume, target_spacing=1.1), ctsr.degrade(volume)):
        out = ctsr.write_series(right, tmp_path / f"{right.grid.shape[1]}", like=source)
        assert ctsr.read_volume(out).grid.origin == pytest.approx(right.grid.origin, abs=1e-6)


@pytest.mark.parametrize("name", ["out", "out.nii.gz"])
def test_values_that_rounding_leaves_nothing_of_are_not_written(source: Path, tmp_path: Path, name: str) -> None:
    volume = ctsr.read_volume(source)
    with pytest.raises(DomainError, match="whole HU"):
        ctsr.write_series(replace(volume, hu=volume.hu / 1000), tmp_path / name, like=source)
    mask = replace(volume, hu=(volume.hu > 0).astype(np.float32))
    assert ctsr.write_series(mask, tmp_path / name, like=source).exists()


@pytest.mark.parametrize("turned", [False, True])
def test_letters_of_an_orientation_go_where_another_one_is_written(tmp_path: Path, turned: bool) -> None:
    images = [body(48, seed=i) for i in range(2)]
    save_series(tmp_path / "s", images, PatientOrientation=["L", "P"])
    volume = ctsr.read_volume(tmp_path / "s")
    if turned:  # rows and columns run the other way
        slices, rows, columns = volume.grid.directions
        back = tuple(tuple(-x for x in axis) for axis in (rows, columns))
        grid = replace(volume.grid, origin=volume.grid.position((0, 47, 47)), directions=(slices, *back))
        volume = replace(volume, hu=volume.hu[:, ::-1, ::-1], grid=grid)
    out = ctsr.write_series(volume, tmp_path / "out", like=tmp_path / "s")
    header = dcmread(out / "0001.dcm")
    assert ("PatientOrientation" in header) is not turned
    assert [float(x) for x in header.ImageOrientationPatient] == (
        [-1, 0, 0, 0, -1, 0] if turned else [1, 0, 0, 0, 1, 0]
    )


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"label": "[a label that is longer]"}, "`label`"),
        ({"label": "[a\\b]"}, "backslash"),
        ({"description": "two\nlines"}, "control"),
        ({"description": "Gauß, σ 1"}, "'ß'"),
        ({"description": "x" * 2000}, "`description`"),
    ],
)
def test_texts_that_dicom_cannot_keep_are_refused(
    source: Path, tmp_path: Path, options: dict[str, str], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        ctsr.write_series(ctsr.read_volume(source), tmp_path / "out", like=source, **options)  # type: ignore[arg-type]


def test_names_of_other_formats_are_refused(source: Path, tmp_path: Path) -> None:
    volume = ctsr.read_volume(source)
    (tmp_path / "folder.nii").mkdir()
    for name in ("out.mha", "out.nrrd", "folder.nii"):
        with pytest.raises(CtsrError, match=r"nii\.gz|another `out`"):
            ctsr.write_series(volume, tmp_path / name, like=source, overwrite=True)


def test_a_run_that_learned_nothing_is_a_warning(
    bilinear_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "rrdb_x2_blurnoise_20260101-120000"
    run.mkdir(parents=True)
    (run / "best.pth").write_bytes(bilinear_path.read_bytes())
    (run / "validation.json").write_text('{"best_l1": 0.02, "bicubic_l1": 0.01}', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match=r"best\.pth is no better than bicubic interpolation on its validation"):
        ctsr.load_model("rrdb_ct_best.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ctsr.load_model(bilinear_path)
        ctsr.load_model("ctsr-x2")
