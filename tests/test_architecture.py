"""The import rule and the light start: read from the source, so they cannot drift."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradscope
from gradscope import _moved

ROOT = Path(gradscope.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py") if "__pycache__" not in p.parts)

RENDERING = {"jinja2", "markupsafe", "rich"}
# What a report is read, compared and shown with, and what judges a profile.
WITHOUT_TENSORFLOW = ("records", "render", "signals", "symptoms", "diagnosis", "report", "cli")


def import_names(tree: ast.AST, *, lazy: bool) -> Iterator[str]:
    """Dotted names of what a file imports; `lazy` includes imports inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef) and not lazy:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        else:
            yield from import_names(node, lazy=lazy)


def foreign(path: Path, *, lazy: bool) -> set[str]:
    """Packages of others that a file imports."""
    names = import_names(ast.parse(path.read_text()), lazy=lazy)
    return {n.split(".")[0] for n in names} - sys.stdlib_module_names - {"gradscope"}


def files_in(*folders: str) -> pytest.MarkDecorator:
    paths = [p for p in FILES if p.relative_to(ROOT).parts[0] in folders]
    return pytest.mark.parametrize("path", paths, ids=lambda p: str(p.relative_to(ROOT)))


def test_folders_are_the_stages():
    """The layers are in pyproject.toml; `lint-imports` shows what breaks them."""
    pytest.importorskip("importlinter", reason="the extra 'dev' is not installed")
    command = [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports as l;sys.exit(l(no_cache=True))",
    ]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stdout


@files_in("render")
def test_rendering_knows_nothing_but_plain_data(path):
    assert foreign(path, lazy=True) <= RENDERING


@files_in("records", "signals", "symptoms")
def test_judging_needs_numpy_at_most(path):
    assert foreign(path, lazy=True) <= {"numpy"}


@files_in(*WITHOUT_TENSORFLOW)
def test_tensorflow_is_imported_where_it_is_needed_only(path):
    assert foreign(path, lazy=False).isdisjoint({"tensorflow", "keras"})


def loaded_after(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after running `code`."""
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import gradscope; gradscope.Report; gradscope.load_report; gradscope.UsageError",
        "from gradscope.symptoms import registry; registry()",
        "from click.testing import CliRunner\nfrom gradscope.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0",
        "from gradscope.samples import registry; registry()",
    ],
    ids=["import", "registry", "help", "samples"],
)
def test_light_start(code):
    loaded = loaded_after(code)

    assert "gradscope" in loaded
    assert loaded.isdisjoint({"tensorflow", "keras"})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is(path):
    if path.read_text().strip() and path.name != "_version.py":
        assert ast.get_docstring(ast.parse(path.read_text()))


def test_at_most_sixteen_public_names():
    assert len(gradscope.__all__) <= 16


@pytest.mark.parametrize("name", gradscope.__all__)
def test_every_public_name_is_there(name):
    assert getattr(gradscope, name)


@pytest.mark.parametrize("name", gradscope.__all__)
def test_what_is_public_tells_its_arguments_and_what_it_returns(name):
    value = getattr(gradscope, name)
    if not inspect.isfunction(value):
        return
    text = inspect.getdoc(value) or ""
    told = set(re.findall(r"^    (\w+): ", text, re.MULTILINE))
    signature = inspect.signature(value)
    assert set(signature.parameters) <= told
    assert ("\nReturns:\n" in text) == (signature.return_annotation != "None")


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        gradscope.nothing  # noqa: B018


def test_dir_shows_the_public_names():
    assert dir(gradscope) == sorted(gradscope.__all__)


@pytest.mark.parametrize("old", sorted(_moved.MOVED))
def test_published_import_paths_go_on_working(old):
    home = importlib.import_module(_moved.MOVED[old])
    names = [n for n, v in vars(home).items() if getattr(v, "__module__", "") == home.__name__]

    assert names
    assert all(getattr(importlib.import_module(old), n) is getattr(home, n) for n in names)


@pytest.mark.parametrize("old", sorted(_moved.RENAMED))
def test_functions_of_published_modules_go_on_under_their_old_names(old):
    from gradscope.surgery import graph

    new = getattr(graph, _moved.RENAMED[old])
    assert getattr(importlib.import_module("gradscope.graph"), old) is new
