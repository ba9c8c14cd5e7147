"""Measure how a package is built, and print a table: ours beside others, by the same rules.

    python .ci/measure_house.py .:torchcreator:tests pluggy-1.6.0:src/pluggy:testing

Each argument is a folder with a pyproject.toml, the package in it, and its tests. Nothing is
imported: all numbers are read off the syntax trees. Needs Python 3.11, for tomllib.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import tomllib

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Graph: TypeAlias = dict[str, set[str]]


@dataclass(frozen=True)
class Project:
    """A package, its tests, and the folder that both are in."""

    root: Path
    package: Path
    tests: Path

    @functools.cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of each module, by its full name."""
        parent = self.package.parent
        return {
            ".".join(path.relative_to(parent).with_suffix("").parts).removesuffix(".__init__"): tree
            for path in sorted(self.package.rglob("*.py"))
            if (tree := ast.parse(path.read_text()))
        }

    @property
    def functions(self) -> Iterator[Function]:
        """Every function and method of the package."""
        for tree in self.trees.values():
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    yield node

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.package.name


def lines(folder: Path) -> list[int]:
    """Return the lines of each Python file of a folder."""
    return [len(path.read_text().splitlines()) for path in folder.rglob("*.py")]


def code_lines(function: Function) -> int:
    """Return the lines of a function that hold code: no docstring, no comment, no blank line."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    nodes = [function.args, *body]
    held = {function.lineno}
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, (ast.expr, ast.stmt, ast.arg)):
            held |= {node.lineno, node.end_lineno or node.lineno}
    return len(held)


def annotated(function: Function) -> Iterator[bool]:
    """Yield, for each argument and the result, whether it is annotated."""
    of = function.args
    every = [*of.posonlyargs, *of.args, *of.kwonlyargs, of.vararg, of.kwarg]
    for argument in every:
        if argument is not None and argument.arg not in ("self", "cls"):
            yield argument.annotation is not None
    yield function.returns is not None


def imports(name: str, tree: ast.Module, known: Graph | dict[str, ast.Module]) -> set[str]:
    """Return the modules of the package that a module needs to be imported."""
    found: set[str] = set()
    for node in _at_import(tree.body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name if known_package(name, known) else name.rpartition(".")[0]
            up = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(up if node.level else []), *filter(None, [node.module])])
            members = {f"{base}.{alias.name}" for alias in node.names}
            # `from package import module` needs the module; a name needs where it is defined.
            found |= {member if member in known else base for member in members}
    return {module for module in found if module in known and module != name}


def known_package(name: str, known: Graph | dict[str, ast.Module]) -> bool:
    """Return whether a module is a package's __init__."""
    return any(other.startswith(f"{name}.") for other in known)


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and "TYPE_CHECKING" not in ast.unparse(statement.test):
            yield from _at_import([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            yield from _at_import(statement.body)


def groups(graph: Graph) -> list[set[str]]:
    """Return the modules that reach each other, together; one alone is a group of one."""
    reached = {name: reach(name, graph) for name in graph}
    together = {
        frozenset({name, *(o for o in reached[name] if name in reached[o])}) for name in graph
    }
    return [set(group) for group in together]


def reach(name: str, graph: Graph) -> set[str]:
    """Return every module that a module needs, at whatever remove."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        for needed in graph[ahead.pop()] - found:
            found.add(needed)
            ahead.append(needed)
    return found


def depth(graph: Graph) -> int:
    """Return the length of the longest chain of imports; a cycle counts as one module."""
    of = {name: index for index, group in enumerate(groups(graph)) for name in group}

    @functools.cache
    def below(group: int) -> int:
        inside = [name for name, index in of.items() if index == group]
        needed = {of[target] for name in inside for target in graph[name]} - {group}
        return 1 + max(map(below, needed), default=0)

    return max(map(below, of.values()))


def measure(project: Project) -> dict[str, str]:
    """Return what the table says of a project."""
    sizes = lines(project.package)
    lengths = sorted(map(code_lines, project.functions))
    graph = {name: imports(name, tree, project.trees) for name, tree in project.trees.items()}
    typed = [known for function in project.functions for known in annotated(function)]
    metadata = tomllib.loads((project.root / "pyproject.toml").read_text())["project"]
    return {
        "modules": f"{len(sizes)}",
        "lines": f"{sum(sizes):,}",
        "longest file": f"{max(sizes)}",
        "functions": f"{len(lengths)}",
        "longest function, lines of code": f"{lengths[-1]}",
        "functions over 40 lines": f"{sum(length > 40 for length in lengths)}",
        "median function": f"{lengths[len(lengths) // 2]}",
        "import cycles": f"{sum(len(group) > 1 for group in groups(graph))}",
        "modules in the largest cycle": f"{max(map(len, groups(graph))) if graph else 0}",
        "longest chain of imports": f"{depth(graph)}",
        "annotated": f"{100 * sum(typed) / len(typed):.1f} %",
        "lines of tests per line": f"{sum(lines(project.tests)) / sum(sizes):.2f}",
        "dependencies": f"{len(metadata.get('dependencies', []))}",
    }


def main(arguments: list[str]) -> None:
    """Print the table."""
    parts = [argument.split(":") for argument in arguments]
    projects = [Project(Path(a), Path(a, b), Path(a, c)) for a, b, c in parts]
    rows = [measure(project) for project in projects]
    print("| |", *(f"{project.name} |" for project in projects))
    print("| --- |", *("---: |" for _ in projects))
    for label in rows[0]:
        print(f"| {label} |", *(f"{row[label]} |" for row in rows))


if __name__ == "__main__":
    main(sys.argv[1:])
