"""What is shipped: the wheel holds everything, and the documents say what is true."""

from __future__ import annotations

import configparser
import email
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gradscope
from docs import reference_pages
from gradscope import treatments
from gradscope.symptoms import registry
from tests.support.factories import sick_sigmoid_report

ROOT = Path(__file__).parents[1]
SOURCES = (
    "setup.py",
    "gradscope",
    "samples",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
WHEEL_FOLDERS = {"gradscope": "gradscope", "samples": "gradscope/samples"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the sources so that nothing left from a build gets in."""
    folder = tmp_path_factory.mktemp("packaging")
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*command, "--no-index", "--wheel-dir", folder, tree], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    found = next(n for n in wheel.namelist() if n.endswith(f".dist-info/{name}"))
    return wheel.read(found).decode()


@pytest.mark.slow
@pytest.mark.parametrize("folder", WHEEL_FOLDERS)
def test_wheel_holds_every_source_file(wheel, folder):
    # Style sheets and templates too: a pattern missing from package_data would leave them out.
    files = [p.relative_to(ROOT / folder) for p in (ROOT / folder).rglob("*") if p.is_file()]
    expected = {
        f"{WHEEL_FOLDERS[folder]}/{p.as_posix()}" for p in files if p.suffix not in (".pyc", "")
    }
    assert expected - set(wheel.namelist()) == set()


def test_wheel_carries_the_licence(wheel):
    assert any(n.endswith("LICENSE") for n in wheel.namelist())


def test_wheel_declares_the_command(wheel):
    entries = configparser.ConfigParser()
    entries.read_string(metadata(wheel, "entry_points.txt"))
    assert dict(entries["console_scripts"]) == {"gradscope": "gradscope.cli:main"}


def test_declared_command_can_be_loaded():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="gradscope")
    assert callable(next(iter(scripts)).load())


def test_wheel_has_the_name_that_is_free_on_pypi(wheel):
    assert email.message_from_string(metadata(wheel, "METADATA"))["Name"] == "gradscope-keras"


def test_wheel_has_the_version_of_the_package(wheel):
    version = email.message_from_string(metadata(wheel, "METADATA"))["Version"]
    assert version == gradscope.__version__


@pytest.mark.slow
def test_unpacked_wheel_renders_a_report_on_its_own(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    (tmp_path / "run.json").write_text(sick_sigmoid_report().to_json(), encoding="utf-8")
    program = (
        "import gradscope, pathlib\n"
        "assert pathlib.Path('site').resolve() in pathlib.Path(gradscope.__file__).parents\n"
        "gradscope.load_report('run.json').to_html('run.html')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True
    )
    assert done.stderr.decode() == ""
    assert "<style>" in (tmp_path / "run.html").read_text(encoding="utf-8")


def test_changelog_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+)", text, re.MULTILINE)
    assert first is not None
    assert first[1] == gradscope.__version__


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_no_document_installs_the_unrelated_package_of_that_name(document):
    text = document.read_text(encoding="utf-8")
    assert re.findall(r"pip\S*\s+install\s[^\n]*\bgradscope\b(?!-keras)[^\n]*", text) == []


def is_made(page: Path) -> bool:
    """Whether the documentation's build makes the page from a registry."""
    kinds = {"symptoms": registry(), "treatments": treatments.registry()}
    names = {"thresholds.md"} | {f"{k}/{n}.md" for k, ids in kinds.items() for n in (*ids, "index")}
    return os.path.relpath(page.resolve(), ROOT / "docs") in names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_relative_links_lead_to_files(document):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    local = [document.parent / link for link in links if "://" not in link]
    assert [link for link in local if not (link.exists() or is_made(link))] == []


def test_readme_describes_every_symptom_as_the_registry_does():
    """Where it does not, `make tables` writes the table anew."""
    text = reference_pages.README.read_text(encoding="utf-8")
    assert text == reference_pages.with_table(text)


def test_readme_names_demo_and_test_before_other_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0]
    assert [line.split("#")[0].strip() for line in block.splitlines()] == ["make demo", "make test"]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200
