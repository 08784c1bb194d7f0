"""What keeps the package readable: how much of it one task loads, how long modules and functions are, which idioms."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest
from benchmarks.closures import closure, imported, modules

TREES = modules()
COMPREHENSION = ast.GeneratorExp | ast.ListComp


@pytest.mark.parametrize(
    ("task", "most"), [("ctsr.evaluate.evaluation", 64), ("ctsr.upscale.run", 50), ("ctsr.train.run", 55)]
)
def test_a_task_loads_no_more_modules_than_it_needs(task: str, most: int) -> None:
    loaded = closure(task, TREES)
    assert len(loaded) <= most, sorted(loaded)


def test_the_package_has_few_modules_and_they_import_each_other_in_one_direction() -> None:
    assert len(TREES) <= 150
    imports = {name: [module for module in imported(tree, TREES) if module in TREES] for name, tree in TREES.items()}
    ordered = list(TopologicalSorter(imports).static_order())  # raises where there is a circle
    assert set(ordered) == set(TREES)


def test_no_module_is_longer_than_a_reader_keeps_in_mind() -> None:
    too_long = [name for name, tree in TREES.items() if tree.body and (tree.body[-1].end_lineno or 0) > 450]
    assert too_long == []


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield f"{module}.{node.name}", node


def test_a_function_fits_on_a_screen_but_for_its_docstring() -> None:
    too_long: list[str] = []
    for name, node in functions():
        first = node.body[0]
        is_documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        docstring = (first.end_lineno or 0) - first.lineno + 1 if is_documented else 0
        if (node.end_lineno or 0) - node.lineno + 1 - docstring > 56:
            too_long.append(name)
    assert too_long == []


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for module, tree in TREES.items():
        yield from ((module, node) for node in ast.walk(tree))


def test_names_say_what_is_in_them() -> None:
    named = [(module, node.id) for module, node in nodes() if isinstance(node, ast.Name)]
    named += [(module, node.arg) for module, node in nodes() if isinstance(node, ast.arg)]
    assert [module for module, name in named if name == "one"] == []


def test_several_names_are_not_unpacked_from_a_comprehension() -> None:
    assigned = [(module, node) for module, node in nodes() if isinstance(node, ast.Assign)]
    made = [(module, node.targets[0]) for module, node in assigned if isinstance(node.value, COMPREHENSION)]
    assert [module for module, target in made if isinstance(target, ast.Tuple)] == []


def test_no_comprehension_holds_another() -> None:
    kinds = ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp
    inner = [
        (module, child) for module, node in nodes() if isinstance(node, kinds) for child in list(ast.walk(node))[1:]
    ]
    assert [f"{module}:{child.lineno}" for module, child in inner if isinstance(child, kinds)] == []


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
    assert shared == set()
