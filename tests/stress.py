"""Tests that start processes, run again and again on a busy machine: `make stress N=30`.

As a pytest plugin (``-p tests.stress --stress_ledger FILE``) it writes a line for each test: outcome, seconds, load,
and how many processes the test or a fixture of it started. As a command it runs tests, bundles of them, in processes of
their own beside busy loops: every test once, to see which start processes, and these until each has `--runs` runs. The
ledger counts, so that a run which is cut off goes on where it was.
"""

import argparse
import contextlib
import json
import multiprocessing.process
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import psutil
import pytest
from _pytest.runner import runtestprotocol

STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}
"""Audit events of Python that mean a process. Those of `multiprocessing` have none where they are spawned."""
FIRST = (
    "tests/train/test_devices.py",
    "tests/train/test_run_lock.py",
    "tests/test_pool.py",
    "tests/test_cluster.py",
    "tests/evaluate/test_cluster.py",
    "tests/upscale/test_cluster.py",
    "tests/upscale/test_watch.py",
    "tests/node/test_service.py",
    "tests/node/test_receiver.py",
    "tests/node/test_load.py",
    "tests/data/test_patches.py",
    "tests/data/test_hu_cache.py",
    "tests/preprocess/test_run.py",
    "tests/evaluate/test_run.py",
    "tests/infer/test_engines.py",
    "tests/checkpoint/test_checkpoint_io.py",
    "tests/test_files.py",
    "tests/cli/test_view.py",
    "tests/cli/test_streams.py",
)
"""Where processes work beside each other or are ended by signals: these have all their runs before the others."""
BUNDLE_S = 1000.0
"""Tests share a process of pytest, and what a module makes for all of its tests, and are repeated in it: so much at a
time."""


class Watch:
    """Counts the processes that are started, and writes the ledger."""

    def __init__(self, ledger: Path, times: Mapping[str, int]) -> None:
        self.ledger = ledger
        self.times = times
        self.started = 0
        self.fixtures: set[tuple[str, str]] = set()
        self.failures: dict[str, str] = {}
        self.place: dict[str, int] = {}
        sys.addaudithook(self._count)
        watch, start = self, multiprocessing.process.BaseProcess.start

        def counted(self: multiprocessing.process.BaseProcess) -> None:
            watch.started += 1
            start(self)

        multiprocessing.process.BaseProcess.start = counted

    def _count(self, event: str, _arguments: tuple[object, ...]) -> None:
        self.started += event in STARTS

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Repeat the tests that are to run several times, in rounds: what they share is made once in each."""
        rounds = max(self.times.values(), default=1)
        items[:] = [item for turn in range(rounds) for item in items if turn < self.times.get(item.nodeid, 1)]
        self.place = {item.nodeid: place for place, item in enumerate(dict.fromkeys(items))}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        """A fixture that starts processes which then go on has all its tests count, not only the first."""
        before = running()
        made = yield
        if running() - before:
            self.fixtures.add((fixturedef.baseid, fixturedef.argname))
        return made

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """One line for each test; fixtures are made anew in every round."""
        before, begun = self.started, time.monotonic()
        self.failures.pop(item.nodeid, None)
        self.outcome = "passed"
        hooks, place = item.ihook, {"nodeid": item.nodeid, "location": item.location}
        hooks.pytest_runtest_logstart(**place)
        ends_round = nextitem is None or self.place[nextitem.nodeid] <= self.place[item.nodeid]
        runtestprotocol(item, nextitem=None if ends_round else nextitem)
        hooks.pytest_runtest_logfinish(**place)
        names = getattr(item, "fixturenames", ())
        shared = any(item.nodeid.startswith(base) and name in names for base, name in self.fixtures)
        line: dict[str, object] = {
            "test": item.nodeid,
            "outcome": self.outcome,
            "seconds": round(time.monotonic() - begun, 2),
            "starts": max(self.started - before, int(shared)),
            "load": round(os.getloadavg()[0], 1),
        }
        append(self.ledger, line | ({"text": self.failures[item.nodeid]} if item.nodeid in self.failures else {}))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The worst of set-up, call and tear-down is the outcome."""
        if report.failed:
            self.outcome = "failed"
            self.failures[report.nodeid] = f"{self.failures.get(report.nodeid, '')}{report.when}: {report.longreprtext}"
        elif report.skipped and self.outcome == "passed":
            self.outcome = "skipped"


def running() -> set[int]:
    """The processes that this one has started and that have not ended."""
    children = psutil.Process().children()
    return {child.pid for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE}


def append(ledger: Path, line: dict[str, object]) -> None:
    """Add a line in one write: several processes add to one ledger."""
    with ledger.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    parser.addoption("--stress_ledger", type=Path, help="add a line for each test to this file")
    parser.addoption("--stress_times", type=Path, help="JSON: how often tests are run, once where they are not named")


def pytest_configure(config: pytest.Config) -> None:
    """Watch where a ledger was asked for."""
    ledger: Path | None = config.getoption("stress_ledger")
    times: Path | None = config.getoption("stress_times")
    if ledger is not None:
        named = json.loads(times.read_text(encoding="utf-8")) if times else {}
        config.pluginmanager.register(Watch(ledger, named))


class Ledger:
    """What has been run so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.starts: set[str] = set()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.loads: list[float] = []
        self.seen: set[str] = set()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            self._add(json.loads(line))

    def _add(self, line: dict[str, object]) -> None:
        if "module" in line:
            self.seen.add(str(line["module"]))
            return
        test = str(line["test"])
        if line["outcome"] != "skipped":
            self.runs[test] += 1
            self.failed[test] += line["outcome"] == "failed"
        if line["starts"] and line["outcome"] != "skipped":
            self.starts.add(test)
        self.seconds[test] += float(str(line["seconds"]))
        self.loads.append(float(str(line["load"])))

    def bundle(self, modules: list[str], runs: int, under_way: Counter[str]) -> dict[str, int]:
        """Modules never seen, or tests to run next and how often: those of `FIRST` first, a module's tests together."""
        lacks = {name: 1 for name in modules if name not in self.seen and not under_way[name]}
        for name in self.starts:
            module, separator, _ = name.partition("::")
            if separator and module in modules and self.runs[name] + under_way[name] < runs:
                lacks[name] = runs - self.runs[name] - under_way[name]
        expected = {name: self.seconds[name] / self.runs[name] if self.runs[name] else BUNDLE_S / 4 for name in lacks}
        kinds = {name: (rank(name), "::" in name) for name in lacks}
        found: list[str] = []
        room = BUNDLE_S
        for name in sorted(lacks, key=lambda name: (*kinds[name], name.partition("::")[0], -lacks[name], name)):
            if found and (kinds[name] != kinds[found[0]] or expected[name] > room):
                break
            found.append(name)
            room -= expected[name]
        rounds = max(1, int(BUNDLE_S / max(sum(expected[name] for name in found), 0.01)))
        return {name: min(lacks[name], rounds) for name in found}

    def report(self, runs: int) -> str:
        """Tests by module with the fewest runs and the failures, and a line of sums."""
        modules: defaultdict[str, list[str]] = defaultdict(list)
        for test in self.starts:
            modules[test.partition("::")[0]].append(test)
        lines = ["| module | tests | runs each | failures | seconds a run |", "|---|---|---|---|---|"]
        for module in sorted(modules, key=lambda module: (rank(module), module)):
            counts = [self.runs[test] for test in modules[module]]
            each = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
            mean = sum(self.seconds[test] / self.runs[test] for test in modules[module])
            bad = sum(self.failed[test] for test in modules[module])
            lines.append(f"| {module} | {len(counts)} | {each} | {bad} | {mean:.0f} |")
        whole = sum(self.runs[test] >= runs for test in self.starts)
        middle = sorted(self.loads)[len(self.loads) // 2] if self.loads else 0.0
        total = sum(self.runs[test] for test in self.starts)
        lines += [
            "",
            f"{len(self.starts)} tests start processes; {whole} of them have {runs} runs or more; {total} runs, "
            f"{sum(self.failed.values())} failures; load of the machine: median {middle:.1f}",
        ]
        lines += [f"failed {count} of {self.runs[test]}: {test}" for test, count in self.failed.items() if count]
        return "\n".join(lines)


def rank(name: str) -> int:
    """0 for a module of `FIRST` or a test in one, 1 for any other."""
    return int(name.partition("::")[0] not in FIRST)


def run_bundle(tests: Mapping[str, int], ledger: Path) -> None:
    """Run tests so often, in a process and a temporary folder of their own, which stays where one fails."""
    folder = Path(tempfile.mkdtemp(prefix="ctsr-stress-"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.stress", f"--stress_ledger={ledger}"]
    names = folder / "tests"  # a file of names: hundreds of them are too many for a command line
    names.write_text("\n".join(tests), encoding="utf-8")
    times = folder / "times.json"
    times.write_text(json.dumps(dict(tests)), encoding="utf-8")
    with (folder / "log").open("w") as log:
        command += [f"--stress_times={times}", "--basetemp", str(folder / "made"), f"@{names}"]
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    if done.returncode not in {0, 1, 5}:  # passed, failed (in the ledger), nothing collected
        text = f"pytest ended with {done.returncode}: see {folder / 'log'}"
        append(
            ledger, {"test": next(iter(tests)), "outcome": "failed", "seconds": 0, "starts": 1, "load": 0, "text": text}
        )
    for module in {name.partition("::")[0] for name in tests}:
        append(ledger, {"module": module})
    if done.returncode in {0, 5}:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def busy_loops(number: int) -> Generator[None]:
    """So many processes that do nothing but take a core each."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def stress(modules: list[str], ledger: Path, runs: int, workers: int, until: float) -> None:
    """Run tests, `workers` bundles at once, till all that start processes have their runs or time is up."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    under_way: dict[Future[None], dict[str, int]] = {}
    with ThreadPoolExecutor(workers) as threads:
        while True:
            while len(under_way) < workers and time.time() < until:
                counts = sum((Counter(names) for names in under_way.values()), Counter[str]())
                bundle = Ledger(ledger).bundle(modules, runs, counts)
                if not bundle:
                    break
                under_way[threads.submit(run_bundle, bundle, ledger)] = bundle
            if not under_way:
                return
            finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in finished:
                names = under_way.pop(future)
                done = f"{next(iter(names))} … {len(names)} tests, {sum(names.values())} runs"
                print(f"{time.strftime('%H:%M:%S')} {done}", flush=True)  # noqa: T201 - a command
                future.result()


def main() -> int:
    """Exit status: 0, or 1 when a test failed in any of its runs."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("modules", nargs="*", help="test modules; left out, all")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--ledger", type=Path, default=Path("build/stress.jsonl"))
    parser.add_argument("--loops", type=int, default=2, help="busy loops beside the tests")
    parser.add_argument("--workers", type=int, default=1, help="bundles of tests at once: each is load to the others")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no module after so many")
    parser.add_argument("--report", action="store_true", help="print what the ledger says and run nothing")
    flags = parser.parse_args()
    modules = flags.modules or [str(path) for path in sorted(Path("tests").rglob("test_*.py"))]
    if not flags.report:
        with busy_loops(flags.loops):
            stress(modules, flags.ledger.resolve(), flags.runs, flags.workers, time.time() + 60 * flags.minutes)
    print(Ledger(flags.ledger).report(flags.runs))  # noqa: T201 - a command
    return int(bool(sum(Ledger(flags.ledger).failed.values())))


if __name__ == "__main__":
    sys.exit(main())
