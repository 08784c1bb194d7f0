"""Evaluation: models against interpolation on held-out patients, as rows, statistics, plots and a report.

`evaluation.evaluate` is the entry point. `plan` decides what is computed, `runner` computes the rows of each slice
(`methods`, `slice_metrics`) into the `output_folder`, `statistics` and `summary` compute the tables, and `plots`,
`studies` and `report` show them.
"""

from ctsr import make_callable

make_callable(__name__, "ctsr.api.evaluation:evaluate")
