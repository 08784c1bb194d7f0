"""How much of the package one task loads: what a reader of that task must open, at most."""

import ast
import sys

import pytest
from benchmarks.closures import closure, modules

TREES = modules()


@pytest.mark.parametrize(
    ("task", "most"), [("ctsr.evaluate.evaluation", 81), ("ctsr.upscale.run", 77), ("ctsr.train.run", 70)]
)
def test_a_task_loads_no_more_modules_than_it_needs(task: str, most: int) -> None:
    loaded = closure(task, TREES)
    assert len(loaded) <= most, sorted(loaded)


def test_no_module_is_longer_than_a_reader_keeps_in_mind() -> None:
    too_long = [name for name, tree in TREES.items() if tree.body and (tree.body[-1].end_lineno or 0) > 450]
    assert too_long == []


def test_the_closure_is_what_python_loads() -> None:
    # Of a module that anything has imported, all that it needs is loaded, too.
    import ctsr.volume

    assert closure("ctsr.volume", TREES) <= {name for name in sys.modules if name.startswith("ctsr")} | {"ctsr"}
    assert ctsr.volume.__name__ in closure("ctsr.volume", TREES)


def test_no_two_public_classes_of_the_library_share_a_name() -> None:
    # Classes in `ctsr.cli` are commands, which bear the names that users type.
    homes: dict[str, list[str]] = {}
    for module, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    shared = {name for name, modules in homes.items() if sum(not m.startswith("ctsr.cli") for m in modules) > 1}
    assert shared <= {"Job", "Verdict"}  # of `ctsr.node`, a queue and a network of its own
