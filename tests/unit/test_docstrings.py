"""Docstrings of public names say what a caller needs: errors and the shapes of arrays. That they are there, ruff checks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "fewshot"
MODULES = sorted(SOURCE.rglob("*.py"))
OURS = {"FewshotError", "ConfigError", "DataError"}
SHAPE = re.compile(
    r"\((?:\.\.\.|\d|[A-Za-z])[A-Za-z0-9.*_'+/\-]*(?: [*+/\-x] \w+)*,(?: [^()]*(?:\([^()]*\)[^()]*)*)?\)|any shape|scalar"
    r"|[Ss]ee `|one (?:number|row|line)"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(body: list[ast.stmt], above: str = "") -> Iterator[tuple[str, Function, str]]:
    """Name, function and docstring, together with that of the class it belongs to."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body, f"{ast.get_docstring(node)}\n")
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node, above + (ast.get_docstring(node) or "")


def called(node: ast.AST) -> Iterator[str]:
    """Names of what a function calls in its own module, those of its class included."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call):
            if isinstance(one.func, ast.Name):
                yield one.func.id
            elif isinstance(one.func, ast.Attribute) and isinstance(one.func.value, ast.Name) and one.func.value.id == "self":
                yield one.func.attr


def raised(node: ast.AST) -> set[str]:
    """Our errors that a function raises itself."""
    found = {one.exc.func.id for one in ast.walk(node) if isinstance(one, ast.Raise) and isinstance(one.exc, ast.Call)
             and isinstance(one.exc.func, ast.Name)}  # fmt: skip
    return found & OURS


def errors(node: Function, private: dict[str, Function], seen: frozenset[str] = frozenset()) -> set[str]:
    """Our errors that a function raises, itself or by the private functions of its module that it calls."""
    found = raised(node)
    for name in set(called(node)) & set(private) - seen:
        found |= errors(private[name], private, seen | {name})
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_public_functions_name_the_errors_they_raise(path):
    tree = ast.parse(path.read_text())
    private = {node.name: node for node in ast.walk(tree) if isinstance(node, Function) and node.name.startswith("_")}
    missing = []
    for name, node, words in public(tree.body):
        said = set(re.findall(r"\b(\w+Error)\b", words))
        missing += [f"{name}: {error}" for error in errors(node, private) - said if "FewshotError" not in said]
    assert missing == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_public_functions_of_arrays_give_their_shapes(path):
    missing = []
    tree = ast.parse(path.read_text())
    arrays = {one.targets[0].id for one in tree.body if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
              and re.search(r"\bNDArray\b", ast.unparse(one.value))}  # fmt: skip
    kinds = re.compile("|".join((r"\bTensor\b", r"\bNDArray\b", *(rf"(?<![.\w]){name}\b" for name in sorted(arrays)))))
    for name, node, words in public(tree.body):
        types = [ast.unparse(one.annotation) for one in node.args.args + node.args.kwonlyargs if one.annotation]
        types.append(ast.unparse(node.returns) if node.returns else "")
        if any(kinds.search(kind) for kind in types) and not SHAPE.search(words):
            missing.append(name)
    assert missing == []


UNITS = {
    r"(image_)?size|side": r"pixel|location",
    r"\w*seconds|timeout": r"[Ss]econd",
    r"\w*bytes|memory": r"[Bb]yte",
    r"(mean_)?share|strength|label_smoothing": r"0 (to|and|\.\.) 1|[Ss]hare|[Pp]robability",
    r"dpi": r"an inch",
}
"""Numbers that mean nothing without a unit, by name, and what says it."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_public_functions_give_the_units_of_lengths_times_and_shares(path):
    missing = []
    for name, node, words in public(ast.parse(path.read_text()).body):
        for one in node.args.args + node.args.kwonlyargs:
            numeric = one.annotation and re.search(r"\b(int|float)\b", ast.unparse(one.annotation))
            for argument, unit in UNITS.items():
                if numeric and re.fullmatch(argument, one.arg) and not re.search(unit, words):
                    missing.append(f"{name}({one.arg})")
    assert missing == []
