"""The import rule, the light start, and sizes: read from the source, so they cannot drift."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradscope

ROOT = Path(gradscope.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py") if "__pycache__" not in p.parts)

# From the ground up; a module imports its own level and those below. A module that is listed
# nowhere fails its test: every file has its place.
LEVELS = (
    {"_version", "errors", "suggestions", "registries", "records", "plain", "thresholds"},
    {
        "statistics", "moments", "variation", "flow", "baselines", "symptoms", "diagnosis", "watch",
        "verdicts", "timeline",
    },
    {
        "activations", "structure", "row", "origins", "rows", "taps", "isolation", "updates",
        "weights", "objectives", "reductions", "traced", "filling", "handed", "recurrence",
        "warming", "dispatch", "batchluck", "compiled",
        "boards", "ownstep", "probe", "capture", "features", "dataprofile", "outputs",
        "lossterms", "optimizers", "profiling", "graph",
        "remake", "duplicate", "splice", "transfer", "connections", "symbolic",
        "treatments", "prescription",
        "signature", "datasets", "datafiles", "datafolders",
        "modelfiles", "savedobjects", "heaps", "containers", "loading", "examples",
        "evaluation", "seeding",
        "loops", "training", "transport",
    },
    {
        "context", "report", "runs", "schedules", "subjects", "following", "differences",
        "reference", "trials", "comparison", "analysis", "assertions", "operating", "therapy",
        "candidates", "ward", "proving", "refining", "search",
    },
    {"callback", "console", "limits", "config", "cli", "samples", "__init__"},
)  # fmt: skip
WITHOUT_TENSORFLOW = (
    LEVELS[0]
    | LEVELS[1]
    | {
        "treatments",
        "prescription",
        "context",
        "report",
        "differences",
        "reference",
        "console",
        "limits",
        "config",
        "cli",
        "__init__",
    }
    | {"render"}
)
RENDERING = {"jinja2", "markupsafe", "rich"}


def unit_of(path: Path) -> str:
    """ "symptoms" for gradscope/symptoms/dead_relu.py, "rows" for gradscope/rows.py."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def level_of(unit: str) -> int:
    found = [n for n, units in enumerate(LEVELS) if unit in units]
    assert found, f"{unit} has no place in LEVELS"
    return found[0]


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """Dotted names of what a file imports; `lazy` includes imports inside functions."""
    return _imports(ast.parse(path.read_text()), lazy)


def _imports(tree: ast.AST, lazy: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef) and not lazy:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            inside = node.module == "gradscope"
            names = [f"gradscope.{a.name}" for a in node.names] if inside else [node.module or ""]
            yield from names
        else:
            yield from _imports(node, lazy)


def own(names: Iterator[str]) -> set[str]:
    """The units of gradscope among imported names; `gradscope` itself is __init__."""
    parts = [name.split(".") for name in names]
    return {(p[1] if len(p) > 1 else "__init__") for p in parts if p[0] == "gradscope"}


def others(names: Iterator[str]) -> set[str]:
    return {n.split(".")[0] for n in names} - sys.stdlib_module_names - {"gradscope"}


ranked = pytest.mark.parametrize(
    "path",
    [p for p in FILES if unit_of(p) != "render"],
    ids=lambda p: str(p.relative_to(ROOT)),
)
every = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


@ranked
def test_imports_point_downwards(path):
    level = level_of(unit_of(path))
    upward = {unit for unit in own(imports(path, lazy=False)) if level_of(unit) > level}

    assert upward == set()


@pytest.mark.parametrize("path", sorted((ROOT / "render").rglob("*.py")), ids=lambda p: p.name)
def test_rendering_knows_nothing_but_plain_data(path):
    assert own(imports(path, lazy=True)) <= {"render"}
    assert others(imports(path, lazy=True)) <= RENDERING


@ranked
def test_only_the_report_and_the_command_line_render(path):
    if "render" in own(imports(path, lazy=True)):
        assert unit_of(path) in ("report", "differences", "cli", "console")


@every
def test_tensorflow_is_imported_where_it_is_needed_only(path):
    if unit_of(path) in WITHOUT_TENSORFLOW:
        assert others(imports(path, lazy=False)).isdisjoint({"tensorflow", "keras"})


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if unit_of(p) in LEVELS[0] | LEVELS[1]],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_below_the_measurements_there_is_numpy_only(path):
    assert others(imports(path, lazy=True)) <= {"numpy"}


@pytest.mark.parametrize("path", sorted((ROOT / "symptoms").glob("[!_]*.py")), ids=lambda p: p.name)
def test_symptoms_do_not_know_of_each_other(path):
    shared = [n for n in imports(path, lazy=True) if n.startswith("gradscope.symptoms.")]

    assert all(n.split(".")[2].startswith("_") for n in shared)


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


# Longer than the rule allows today; they may shrink, not grow.
@every
def test_file_size(path):
    rule = 150 if unit_of(path) == "symptoms" else 300

    assert len(path.read_text().splitlines()) <= rule


def functions(path: Path) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]


@every
def test_function_size(path):
    """Lines of code: a docstring and decorators do not count."""
    sizes = {}
    for function in functions(path):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        if body:
            sizes[function.name] = (body[-1].end_lineno or 0) - body[0].lineno + 1

    assert {name: size for name, size in sizes.items() if size > 40} == {}


@every
def test_every_module_says_what_it_is(path):
    if path.read_text().strip() and path.name != "_version.py":
        assert ast.get_docstring(ast.parse(path.read_text()))


def test_at_most_fifteen_public_names():
    assert len(gradscope.__all__) <= 15


@pytest.mark.parametrize("name", gradscope.__all__)
def test_every_public_name_is_there(name):
    assert getattr(gradscope, name)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        gradscope.nothing  # noqa: B018


def test_dir_shows_the_public_names():
    assert dir(gradscope) == sorted(gradscope.__all__)
