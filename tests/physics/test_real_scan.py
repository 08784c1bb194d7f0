"""Resolution of a scan of a phantom: a known blur is found from a wire, from rods and from edges."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from ctsr.cli.main import main
from ctsr.errors import DomainError
from ctsr.exams import read_slice, scan
from ctsr.models.interpolation import Interpolation, enlarge
from ctsr.physics.real_scan import Kind, ScanPhysics, find_rods, find_wire, measure_scan
from ctsr.physics.transfer import distances
from ctsr.quality.sharpness import TEN_TO_NINETY
from tests.made.ct import ct_slice, padded, save
from tests.quality.images import Image, blurred_discs

PIXEL = 0.5


def mtf50(sigma_mm: float) -> float:
    """Of a Gaussian point spread."""
    return float(np.sqrt(np.log(2) / 2) / (np.pi * sigma_mm))


def rods(sigma: float, noise: float = 5.0) -> Image:
    """Two bright and two dark rods of 13 mm in a cylinder, edges blurred by `sigma` pixels."""
    shape = (256, 256)
    hu = -1000 + 1090 * ndtr((110 - distances(shape, (127.5, 127.5))) / sigma)
    for (row, column), contrast in {
        (80.3, 90.1): 800,
        (170.6, 95.4): -300,
        (90.2, 172.7): 300,
        (168.1, 166.5): -900,
    }.items():
        hu += contrast * ndtr((13 - distances(shape, (row, column))) / sigma)
    return (hu + np.random.default_rng(0).normal(0, noise, shape)).astype(np.float32)


def test_rods_are_found_where_they_are() -> None:
    found = sorted(find_rods(rods(1.2), PIXEL))
    assert [rod.contrast_hu > 0 for rod in found] == [True, True, False, False]
    np.testing.assert_allclose(found[0][:3], (80.3, 90.1, 13), atol=0.05)


@pytest.mark.parametrize("sigma", [0.8, 1.2, 2.0])
def test_rods_show_the_blur(sigma: float) -> None:
    found = measure_scan([rods(sigma)], (PIXEL, PIXEL), kind="rods")
    assert {part.name: part.count for part in found.objects} == {"bright rods": 2, "dark rods": 2}
    for part in found.objects:
        assert part.transfer.mtf50_per_mm == pytest.approx(mtf50(sigma * PIXEL), rel=0.05)
        assert part.width_mm == pytest.approx(TEN_TO_NINETY * sigma * PIXEL, rel=0.06)
    assert found.noise.sigma_hu == pytest.approx(5, rel=0.05)


def test_a_wire_shows_the_blur() -> None:
    shape, center = (161, 161), (78.4, 83.2)
    hu = 40 + 400 * np.exp(-(distances(shape, center) ** 2) / (2 * 3.0**2))
    image = (hu + np.random.default_rng(0).normal(0, 4, shape)).astype(np.float32)
    assert find_wire(image, 0.1) == pytest.approx(center, abs=0.3)
    found = measure_scan([image], (0.1, 0.1))
    assert found.kind == "wire"
    assert found.objects[0].transfer.mtf50_per_mm == pytest.approx(mtf50(0.3), rel=0.03)
    for told in (center, (76, 86)):  # typed as it is seen on a screen: a few pixels off
        found = measure_scan([image], (0.1, 0.1), center=told)
        assert found.objects[0].transfer.mtf50_per_mm == pytest.approx(mtf50(0.3), rel=0.03)


@pytest.mark.parametrize("kind", [None, "wire"])
def test_a_place_without_a_wire_is_no_wire(kind: Kind | None) -> None:
    """What noise has there got an MTF like any wire."""
    noise = (40 + np.random.default_rng(0).normal(0, 20, (161, 161))).astype(np.float32)
    with pytest.raises(DomainError, match="nothing at 60, 70 stands out as a wire does"):
        measure_scan([noise], (0.1, 0.1), kind=kind, center=(60, 70))
    wire = noise + 400 * np.exp(-(distances(noise.shape, (61, 70)) ** 2) / (2 * 3.0**2)).astype(np.float32)
    found = measure_scan([noise, wire], (0.1, 0.1), kind=kind, center=(60, 70)).objects[0]
    assert found.count == 1
    assert found.transfer.mtf50_per_mm == pytest.approx(mtf50(0.3), rel=0.1)


def test_edges_show_the_blur_where_there_is_nothing_else() -> None:
    found = measure_scan([blurred_discs(256, 1.0, np.random.default_rng(0))], (0.8, 0.8), kind="edge")
    assert found.objects[0].width_mm == pytest.approx(TEN_TO_NINETY * 0.8, rel=0.06)
    assert found.objects[0].transfer.mtf50_per_mm == pytest.approx(mtf50(0.8), rel=0.06)


@pytest.mark.parametrize("sigma", [2.0, 3.0])
def test_edges_over_many_pixels_are_as_blunt_as_they_are(sigma: float) -> None:
    """As of a soft kernel and a small field of view: over six pixels, they came out 8 and 35 % sharper."""
    found = measure_scan([blurred_discs(256, sigma, np.random.default_rng(0))], (0.3, 0.3), kind="edge").objects[0]
    assert found.transfer.mtf50_per_mm == pytest.approx(mtf50(0.3 * sigma), rel=0.04)
    assert found.width_mm == pytest.approx(TEN_TO_NINETY * 0.3 * sigma, rel=0.04)


def enlarged(image: Image, scale: int, kind: Interpolation) -> Image:
    return enlarge(torch.from_numpy(image)[None, None], scale, kind)[0, 0].numpy()


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_interpolation_makes_no_edge_sharper(scale: int, kind: Interpolation) -> None:
    """Over as many pixels as in the scan, half an edge was fitted: 25 % sharper at ×2, and none was found at ×4."""
    image = blurred_discs(256, 1.5, np.random.default_rng(0))
    before = measure_scan([image], (0.8, 0.8), kind="edge").objects[0]
    finer = (0.8 / scale, 0.8 / scale)
    after = measure_scan([enlarged(image, scale, kind)], finer, kind="edge", finer=scale).objects[0]
    assert after.transfer.mtf50_per_mm == pytest.approx(before.transfer.mtf50_per_mm, rel=0.05)
    assert after.width_mm == pytest.approx(before.width_mm, rel=0.05)


def test_the_rim_of_what_was_reconstructed_is_no_edge() -> None:
    """Enlarged, the rim of padding is an edge that fits well, and sharper than any scanner's."""
    image = blurred_discs(256, 1.5, np.random.default_rng(0))
    padding = distances(image.shape, (127.5, 127.5)) > 100
    image[padding] = -1000
    finer, mask = enlarged(image, 2, "bicubic"), padding.repeat(2, 0).repeat(2, 1)
    masked = measure_scan([finer], (0.4, 0.4), [mask], kind="edge", finer=2).objects[0]
    assert masked.transfer.mtf50_per_mm == pytest.approx(mtf50(1.2), rel=0.06)
    unmasked = measure_scan([finer], (0.4, 0.4), kind="edge", finer=2).objects[0]
    assert unmasked.transfer.mtf50_per_mm != pytest.approx(mtf50(1.2), rel=0.2), "the rim is among the edges"


def test_the_command_masks_the_scan_and_what_a_model_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = padded(blurred_discs(128, 1.5, np.random.default_rng(0)), -1024)
    save(ct_slice(image), tmp_path / "s")
    shares: list[float] = []

    def measure(images: list[Image], *rest: Any, **more: Any) -> ScanPhysics:
        (mask,) = rest[1]
        assert mask.shape == images[0].shape
        assert more.get("finer", 1) == len(mask) // 128
        shares.append(float(mask.mean()))
        return measure_scan(images, *rest, **more)

    monkeypatch.setattr("ctsr.physics.real_scan.measure_scan", measure)
    assert main(["physics", str(tmp_path), "--kind", "edge", "--model_path", "ctsr-x2"]) == 0
    assert shares == [float((image == -1024).mean())] * 3


@pytest.mark.parametrize(
    ("kind", "count", "sentence"),
    [
        (None, 1, "no wire, rods or clear edges found in the slice;"),
        ("edge", 2, "no clear edges found in the 2 slices;"),
        ("wire", 1, "no wire found in the slice;"),
    ],
)
def test_a_scan_of_nothing_is_refused(kind: Kind | None, count: int, sentence: str) -> None:
    with pytest.raises(DomainError, match=sentence):
        measure_scan([np.zeros((128, 128), np.float32)] * count, (0.5, 0.5), kind=kind)


def test_a_finer_scan_of_one_phantom_has_sharper_rods_and_more_noise(real_ct: Path) -> None:
    measured = {}
    for name in ("S2_RamLak_0.908mm", "S5_RamLak_0.511mm"):
        series = next(iter(scan(real_ct / "pairs/SB-Catphan" / name).all_series()))
        found = measure_scan([read_slice(series, 9).hu], series.pixel_spacing, kind="rods")
        measured[name[:2]] = min(part.width_mm or 0 for part in found.objects), found.noise.sigma_hu or 0
    assert measured["S2"][0] > 1.25 * measured["S5"][0]
    assert measured["S5"][1] > 4 * measured["S2"][1]


def test_the_command_writes_curves_and_a_picture(
    real_ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = real_ct / "phantoms/imageQC/Wire_FOV50_se2_Hr68h"
    assert main(["physics", str(source), "--slices", "0", "1", "--out_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "wire" in out
    rows = list(csv.DictReader((tmp_path / "transfer.csv").open()))
    # Hr68h of this wire, as three slices have it: 1.11/mm at half.
    half = min(rows, key=lambda row: abs(float(row["transfer"]) - 0.5))
    assert float(half["frequency_per_mm"]) == pytest.approx(1.11, abs=0.1)
    assert {path.name for path in tmp_path.iterdir()} == {"transfer.csv", "noise.csv", "physics.png"}
