"""Look at LR, SR and HR side by side: `ctsr view` under its first name."""

from ctsr.cli.main import script

if __name__ == "__main__":
    script(__file__)
