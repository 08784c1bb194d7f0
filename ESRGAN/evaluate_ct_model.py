"""Measure a model against interpolation: `ctsr evaluate` under its first name."""

from ctsr.cli.main import script

if __name__ == "__main__":
    script(__file__)
