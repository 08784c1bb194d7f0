"""`python -m ctsr`: the command line, in the form that torchrun starts."""

from ctsr.cli.main import entry

if __name__ == "__main__":
    entry()
