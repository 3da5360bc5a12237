"""The hand-written types of the extension module have its names and parameters."""

import ast
import inspect

from support import REPOSITORY

from gatefold_rnn import _native

STUBS = REPOSITORY / "python" / "package" / "gatefold_rnn" / "_native.pyi"


def parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    names = [one.arg for one in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]
    return [name for name in names if name not in ("self", "cls")]


def decorated(function: ast.FunctionDef, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in function.decorator_list)


def stated(body: list[ast.stmt]) -> dict[str, list[str] | None]:
    """Functions with their parameters; `None` for a property."""
    functions = [one for one in body if isinstance(one, ast.FunctionDef)]
    return {one.name: None if decorated(one, "property") else parameters(one) for one in functions}


def real(owner: object) -> dict[str, list[str] | None]:
    found: dict[str, list[str] | None] = {}
    for name, value in vars(owner).items():
        if name.startswith("_") or inspect.isclass(value):
            continue
        if isinstance(value, staticmethod):
            value = value.__func__
        if not callable(value):
            found[name] = None
            continue
        found[name] = [one for one in inspect.signature(value).parameters if one != "self"]
    return found


def faults(text: str) -> list[str]:
    tree = ast.parse(text)
    classes = {one.name: one.body for one in tree.body if isinstance(one, ast.ClassDef)}
    exported = {name for name, value in vars(_native).items() if inspect.isclass(value)}
    found = [f"class {name}" for name in exported ^ set(classes)]
    pairs = [("module", stated(tree.body), real(_native))]
    for name in exported & set(classes):
        public = {method: value for method, value in stated(classes[name]).items() if not method.startswith("_")}
        pairs.append((name, public, real(getattr(_native, name))))
    for owner, ours, theirs in pairs:
        found += [f"{owner}.{name}: {ours.get(name, '-')} {theirs.get(name, '-')}" for name in {*ours, *theirs}
                  if ours.get(name, "-") != theirs.get(name, "-")]
    return found


def test_the_stubs_are_those_of_the_module():
    text = STUBS.read_text(encoding="utf-8")
    assert faults(text) == []
    for right, wrong in [("def advance(self, chunks", "def advance(self, chunk"), ("def rewind", "def back"), ("class State", "class Stat")]:
        assert faults(text.replace(right, wrong)), "the check can fail"
    assert (STUBS.parent / "py.typed").exists()
