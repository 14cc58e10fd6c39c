"""The GitHub action: its script is run as a runner would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.factories import sick_sigmoid_report

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parents[1]

# Stands in for the command line: notes its arguments and writes the report that it was asked for.
_GRADSCOPE = """#!{python}
import sys
with open("calls", "a") as calls:
    print(*sys.argv[1:], sep="|", file=calls)
if sys.argv[1] == "inspect":
    open(sys.argv[sys.argv.index("--json") + 1], "w").write(open("given.json").read())
    print("::error title=gradscope::sick")
    sys.exit(1)
from gradscope.cli import main
main()
"""


@pytest.fixture
def step() -> dict:
    return yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"][0]


def run(step: dict, folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    stub = folder / "bin" / "gradscope"
    stub.parent.mkdir()
    stub.write_text(_GRADSCOPE.format(python=sys.executable))
    stub.chmod(0o755)
    sick_sigmoid_report().to_json(folder / "given.json")
    environment = {
        **os.environ,
        "PATH": f"{stub.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        **{name: inputs.get(name, "") for name in step["env"]},
    }
    command = ["bash", "-e", "-o", "pipefail", "-c", step["run"]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_findings_are_annotated_summarised_and_fail_the_job(step, tmp_path):
    done = run(step, tmp_path, MODEL="m:f", DATA="d.npz", FAIL_ON="error", REPORT="r")

    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("::error")
    assert (tmp_path / "summary.md").read_text().startswith("### gradscope: error")


def test_inputs_reach_the_command_as_they_are(step, tmp_path):
    model = "my model.keras; touch broken"
    run(step, tmp_path, MODEL=model, FAIL_ON="never", REPORT="r", ARGS="--ignore dead-relu")

    [call, _] = (tmp_path / "calls").read_text().splitlines()
    expected = f"inspect|{model}|--format|github|--fail-on|never|--json|r.json|--html|r.html"
    assert call == f"{expected}|--ignore|dead-relu"
    assert not (tmp_path / "broken").exists()


def test_every_input_is_used(step):
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]

    assert set(step["env"].values()) == {f"${{{{ inputs.{name} }}}}" for name in inputs}
