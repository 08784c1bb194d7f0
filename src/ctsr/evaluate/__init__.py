"""Evaluation: a model against interpolation on held-out patients, as rows, statistics and plots.

`run.evaluate` does it all; `options`, `rows`, `window` and `folder` stand by themselves.
"""
