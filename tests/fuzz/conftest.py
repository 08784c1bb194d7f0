"""Prints what became of the mutants, one line for each kind of file."""

import pytest

from tests.fuzz.mutants import MUTANTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table of outcomes, memory and time after a run of the fuzzers."""
    tallies = [
        tally
        for report in terminalreporter.getreports("passed")
        for name, tally in report.user_properties
        if name == MUTANTS
    ]
    if not tallies:
        return
    terminalreporter.section("mutants")
    for tally in tallies:
        terminalreporter.line(tally)
