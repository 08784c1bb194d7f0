"""Evaluation: models against interpolation on held-out patients, as rows, statistics, plots and a report.

`run.evaluate` does it all: `plan` settles it, `pipeline` makes the images, `judge` measures them, `rows` keeps what was
measured, `statistics`, `tables` and `comparison` draw conclusions, `report` shows them.
"""
