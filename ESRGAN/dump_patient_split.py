"""Show which patient belongs to which part: `ctsr split` under its first name."""

from ctsr.cli.main import script

if __name__ == "__main__":
    script(__file__)
