"""`make demo`: its network is found sick, and only that lets the target pass with exit code 1."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gradscope.cli import main
from gradscope.samples import digits

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """A folder with the demo's model and data."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    digits.save(folder)
    return folder


@pytest.fixture(scope="module")
def inspected(demo) -> Any:
    """What `gradscope inspect` gave for it, asked as the Makefile asks."""
    reports = ("--html", f"{demo}/report.html", "--json", f"{demo}/report.json")
    command = ("inspect", f"{demo}/model.keras", "--data", f"{demo}/data.npz", *reports)
    return CliRunner().invoke(main, command)


def test_data_are_all_digits_scaled_to_one(demo):
    with np.load(demo / "data.npz") as data:
        assert (data["x"].shape, data["x"].max(), data["y"].max()) == ((1797, 64), 1.0, 9)


def test_same_network_is_built_every_time():
    first, second = (digits.sigmoid_network().get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
def test_inspect_ends_with_findings(inspected):
    assert inspected.exit_code == 1


def test_vanishing_gradient_is_told_first_and_answered_by_another_activation(inspected, demo):
    report = json.loads((demo / "report.json").read_text(encoding="utf-8"))
    assert report["findings"][0]["symptom"] == "vanishing-gradient"
    assert report["prescriptions"][0]["treatment"] == "swap-activation"


def test_html_report_names_symptom_and_culprits(inspected, demo):
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert "Vanishing gradient: on its way back from hidden_20" in page
    assert "hidden_2 … hidden_20 (19 layers)" in page


def run_make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """make with variables of its own, so that it neither installs nor leaves anything."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("needs make")
    command = [make, "-f", ROOT / "Makefile", *arguments, "APT_INSTALL=false"]
    # What a make that runs these tests was asked for is not meant for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A stand-in for the repository: the Makefile reads these two files."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize(("code", "passes"), [(0, True), (1, True), (3, False), (4, False)])
def test_make_demo_forgives_findings_only(folder, code, passes):
    script(folder / "python", "exit 0")
    script(folder / "gradscope", f"exit {code}")
    (folder / "made").touch()
    done = run_make(folder, "demo", "BIN=.", "STAMP=made")
    assert (done.returncode == 0) is passes


def test_python_without_ensurepip_is_one_line(folder):
    script(folder / "python", 'case "$*" in *ensurepip*) exit 1;; esac')
    done = run_make(folder, "made", "PYTHON=./python", "STAMP=made")
    assert done.stderr.splitlines()[:-1] == [
        'Python has no ensurepip: install it with "apt-get install python3-venv".'
    ]


def test_old_python_is_one_line(folder):
    script(folder / "python", 'case "$*" in --version) echo Python 3.8.1;; *) exit 1;; esac')
    done = run_make(folder, "made", "PYTHON=./python", "STAMP=made")
    assert done.stderr.splitlines()[:-1] == [
        "Python 3.8.1 is too old: gradscope needs Python 3.10 or later."
    ]


@pytest.mark.slow
def test_readme_example_prints_what_the_readme_says(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    number = next(n for n, (language, _) in enumerate(blocks) if language == "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks[number][1], "README.md", "exec"), {})
    told = capsys.readouterr().out
    for part in blocks[number + 1][1].split("[...]"):  # what is left out
        _, found, told = told.partition(part.strip())
        assert found, part


def test_the_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    pixels, classes = datasets.load_digits(return_X_y=True)
    x, y = digits.digits()

    np.testing.assert_array_equal(x, (pixels / 16.0).astype("float32"))
    np.testing.assert_array_equal(y, classes)
