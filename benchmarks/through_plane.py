"""`python -m benchmarks.through_plane ROOT …`: thin slices from thick ones, beside interpolation along z, as Markdown.

The table of `ctsr evaluate --through_plane` for the five cases of the bounds, with PSNR, SSIM, LPIPS, HU and tissues of
every series below each ROOT that is thin enough; results and pictures go to OUT.
"""

import argparse
from pathlib import Path

from ctsr.checkpoint.model_lookup import DEFAULT_SLICE_MODEL
from ctsr.cli.console import Console
from ctsr.evaluate.methods import load_model_under_test
from ctsr.evaluate.options import EvaluateOptions
from ctsr.evaluate.through_plane import evaluate_through_plane, method_figures, series_section

CASES = ((3.0, 3.0), (5.0, 5.0), (5.0, 3.0), (2.5, 2.5), (4.0, 4.0))
"""Thickness and distance, mm."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, nargs="+", metavar="ROOT", help="folders of patients")
    parser.add_argument("--model", default=DEFAULT_SLICE_MODEL, help="bundled model, run folder or checkpoint")
    parser.add_argument("--case", type=float, nargs=2, action="append", metavar=("T", "D"), help="mm; may be repeated")
    parser.add_argument("--planes", type=int, default=24, help="of each direction and series")
    parser.add_argument("--out", type=Path, default=Path("eval_results"), help="receives tables and pictures")
    given = parser.parse_args()
    console = Console()
    model = load_model_under_test(given.model, device="cpu", kind="between slices", progress=console)
    cases = given.case or CASES
    options = EvaluateOptions(
        root=tuple(given.roots),
        output_dir=given.out,
        through_plane=True,
        thickness=tuple(thickness for thickness, _ in cases),
        distance=tuple(distance for _, distance in cases),
        planes=given.planes,
        allow_train_patients=True,
    )
    result = evaluate_through_plane([model], options, console)
    section = series_section(method_figures(result))
    (table,) = section.tables
    print(f"{given.model}, SHA-256 {model.model.sha256}\n")
    print(f"| {' | '.join(table.columns)} |")
    print(f"|{'---|' * len(table.columns)}")
    for row in table.rows:
        print(f"| {' | '.join(row)} |")
    print("", *section.notes, sep="\n")


if __name__ == "__main__":
    main()
