"""The page's table is what its lines give."""

from pathlib import Path

from ctsr.degrade import Degradation
from ctsr.hu import DEFAULT_RANGE
from ctsr.infer import by_interpolation
from ctsr.physics import study

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "physics.md").read_text(encoding="utf-8")


def test_the_pages_numbers_come_from_its_lines() -> None:
    methods = {kind: by_interpolation(kind, 2, DEFAULT_RANGE) for kind in ("bilinear", "bicubic")}
    found = study(methods, Degradation(), DEFAULT_RANGE, pixel_mm=0.8)
    for method in methods:
        (transfer,) = (
            one.transfer for one in found.transfer if (one.method, one.contrast_hu, one.dose) == (method, 100, 0.25)
        )
        (noise,) = (one.spectrum for one in found.noise if (one.method, one.dose) == (method, 0.25))
        (seen,) = (
            one.d_prime
            for one in found.detectability
            if (one.method, one.dose, one.diameter_mm, one.contrast_hu) == (method, 0.25, 3, 30)
        )
        row = (
            f"| {method} | {transfer.mtf50_per_mm:.3f} ± {transfer.mtf50_error_per_mm:.3f} "
            f"| {transfer.mtf10_per_mm:.3f} ± {transfer.mtf10_error_per_mm:.3f} "
            f"| {noise.std_hu:.1f} | {noise.peak_per_mm:.2f} | {noise.mean_per_mm:.2f} | {seen:.1f} |"
        )
        assert row in PAGE
