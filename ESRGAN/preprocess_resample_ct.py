"""Resample CT exams to one in-plane pixel spacing: `ctsr preprocess` under its first name."""

from ctsr.cli.main import script

if __name__ == "__main__":
    script(__file__)
