"""`python -m benchmarks.closures`: how large the package is, and how much of it a reader of one task must open."""

import ast
import statistics
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

import ctsr

ROOT = Path(ctsr.__file__).parent
TASKS = ("ctsr.evaluate.evaluation", "ctsr.upscale.run", "ctsr.train.run")
"""Where evaluation, super-resolution of series and training begin."""


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name, parsed."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ["ctsr", *path.relative_to(ROOT).with_suffix("").parts]
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def closure(start: str, trees: Mapping[str, ast.Module]) -> set[str]:
    """Names of the modules that are loaded when `start` is imported, itself among them.

    Imports inside of functions and under ``TYPE_CHECKING`` do not count: they load nothing by themselves.
    """
    loaded: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in loaded or name not in trees:
            continue
        loaded.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        waiting.extend(imported(trees[name], trees))
    return loaded


def imported(tree: ast.Module, names: Container[str]) -> Iterator[str]:
    """What a module imports when it is loaded; `names` tells modules from what is in them."""
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module is not None:
            parts = [f"{statement.module}.{alias.name}" for alias in statement.names]
            yield from (part for part in parts if part in names)
            if any(part not in names for part in parts):
                yield statement.module
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                yield alias.name


def _function_lengths(trees: Mapping[str, ast.Module]) -> list[int]:
    nodes = (node for tree in trees.values() for node in ast.walk(tree))
    return sorted((node.end_lineno or 0) - node.lineno + 1 for node in nodes if isinstance(node, ast.FunctionDef))


def main() -> None:
    """Print the table that ARCHITECTURE.md shows."""
    trees = modules()
    lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")]
    lengths = _function_lengths(trees)
    print(f"modules {len(trees)}, lines {sum(lines)}, longest module {max(lines)}, median {statistics.median(lines):g}")
    for task in TASKS:
        print(f"{task}: {len(closure(task, trees))} modules")
    ninth = lengths[len(lengths) * 9 // 10]
    print(f"functions {len(lengths)}: median {statistics.median(lengths):g} lines, p90 {ninth}, longest {lengths[-1]}")


if __name__ == "__main__":
    main()
