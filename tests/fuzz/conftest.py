"""Prints what became of the mutants, one line for each kind of file."""

import resource
import sys

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table of outcomes after a run of the fuzzers."""
    rows = [
        (name, counts)
        for report in terminalreporter.getreports("passed")
        for name, counts in report.user_properties
        if "fuzz" in report.nodeid and isinstance(counts, dict)
    ]
    if not rows:
        return
    terminalreporter.section("mutants")
    for name, counts in rows:
        terminalreporter.line(
            f"{name}: {sum(counts.values())}: {', '.join(f'{n} {what}' for what, n in counts.items())}"
        )
    # In KiB on Linux, in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    terminalreporter.line(f"largest memory of this process: {peak / 2**20:.0f} MiB")
