"""The commands that need no model, and how fast and quietly the program starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradscope import __version__
from gradscope.symptoms import registry


def run(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess:
    """`gradscope ARGUMENTS...` in a process of its own."""
    command = [sys.executable, "-c", "from gradscope.cli import main; main()", *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


@pytest.fixture
def run_json(gradscope, files, tmp_path) -> Path:
    gradscope("inspect", files / "sick.keras", "--json", "run.json")
    return tmp_path / "run.json"


def test_version(gradscope):
    assert gradscope("--version").stdout == f"gradscope {__version__}\n"


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "gradscope", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert done.stdout == f"gradscope {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("inspect", "--help")])
def test_help_goes_to_stdout(gradscope, arguments):
    outcome = gradscope(*arguments)
    assert outcome.stdout.startswith("Usage: ")
    assert (outcome.code, outcome.stderr) == (0, "")


def test_symptoms_are_listed_with_a_line_each(gradscope):
    lines = gradscope("symptoms").stdout.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == list(registry())
    assert all(
        symptom.summary in line for symptom, line in zip(registry().values(), lines, strict=True)
    )


@pytest.mark.slow
def test_report_writes_the_page_that_inspect_writes(gradscope, files, run_json, tmp_path):
    gradscope("inspect", files / "sick.keras", "--json", "run.json", "--html", "first.html")
    outcome = gradscope("report", "run.json", "-o", "second.html")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["symptoms"],
        ["thresholds"],
        ["explain", "dead-relu"],
        ["inspect", "--help"],
        ["demo", "--list"],
        ["report", "run.json", "-o", "r.html"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_tensorflow_is_not_imported_for(run_json, arguments):
    code = (
        "import sys\nfrom gradscope.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: sys.exit(end.code or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=run_json.parent).returncode == 0


@pytest.mark.slow
def test_a_process_prints_the_report_alone(files, tmp_path):
    arguments = ("inspect", str(files / "sick.keras"), "--format", "json")
    outcome = run(*arguments, cwd=tmp_path)
    assert json.loads(outcome.stdout)["findings"]
    assert (outcome.returncode, outcome.stderr) == (1, "")


@pytest.mark.slow
def test_a_process_tells_an_error_in_one_line(tmp_path):
    (tmp_path / "model.h5").write_text("no model")
    outcome = run("inspect", "model.h5", cwd=tmp_path)
    assert outcome.stderr.count("\n") == 1
    assert (outcome.returncode, outcome.stdout) == (3, "")


@pytest.mark.slow
def test_a_file_is_examined_on_tensorflow_whatever_backend_is_set(files, tmp_path):
    arguments = ("inspect", str(files / "sick.keras"), "--format", "json")
    outcome = run(*arguments, cwd=tmp_path, KERAS_BACKEND="jax")
    assert outcome.stderr == (
        "gradscope: note: KERAS_BACKEND sets Keras to 'jax'; the work is done on TensorFlow.\n"
    )
    assert json.loads(outcome.stdout)["versions"]["tensorflow"]
    assert outcome.returncode == 1


@pytest.mark.slow
def test_a_reader_that_leaves_early_changes_nothing(files, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from gradscope.cli import main; main()"]
    command += ["inspect", str(files / "sick.keras")]
    outcome = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (outcome.returncode, outcome.stderr) == (1, b"")


@pytest.mark.slow
def test_a_terminal_without_unicode_still_gets_the_report(files, tmp_path):
    outcome = run(
        "inspect", str(files / "sick.keras"), cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    assert "vanishing-gradient" in outcome.stdout
    assert outcome.returncode == 1
