"""Look at LR and HR side by side: `ctsr view --no_model` under its first name."""

from ctsr.cli.main import script

if __name__ == "__main__":
    script(__file__)
