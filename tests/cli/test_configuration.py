"""[tool.gradscope] in pyproject.toml steers `inspect`; what the command line says comes first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradscope.symptoms import registry

FOUND = "vanishing-gradient"  # what files/sick.keras has


@pytest.fixture
def configure(tmp_path):
    """Write `lines` as [tool.gradscope] of the folder the command runs in."""

    def write(*lines: str) -> Path:
        path = tmp_path / "pyproject.toml"
        path.write_text("\n".join(["[tool.gradscope]", *lines, ""]))
        return path

    return write


@pytest.fixture
def examined(gradscope, files):
    """The ids that `gradscope inspect sick.keras ARGUMENTS...` examines."""

    def run(*arguments: str) -> list[str]:
        outcome = gradscope("inspect", files / "sick.keras", "--format", "json", *arguments)
        return [check["symptom"] for check in json.loads(outcome.stdout)["checks"]]

    return run


@pytest.mark.slow
def test_select_of_the_file_examines_only_that(examined, configure):
    configure("select = ['dead-relu', 'exploding-gradient']")
    assert examined() == ["dead-relu", "exploding-gradient"]


@pytest.mark.slow
def test_ignore_of_the_file_leaves_that_out(examined, configure):
    configure(f"ignore = ['{FOUND}']")
    assert examined() == [id for id in registry() if id != FOUND]


@pytest.mark.slow
def test_the_option_select_replaces_that_of_the_file(examined, configure):
    configure("select = ['dead-relu']")
    assert examined("--select", FOUND) == [FOUND]


@pytest.mark.slow
def test_the_option_ignore_replaces_that_of_the_file(examined, configure):
    configure("ignore = ['dead-relu']")
    assert examined("--ignore", FOUND) == [id for id in registry() if id != FOUND]


@pytest.mark.slow
def test_what_the_option_select_names_is_examined_although_the_file_ignores_it(examined, configure):
    configure(f"ignore = ['{FOUND}', 'dead-relu']")
    assert examined("--select", FOUND) == [FOUND]


@pytest.mark.slow
def test_an_empty_option_clears_that_of_the_file(examined, configure):
    configure("select = ['dead-relu', 'exploding-gradient']", "ignore = ['dead-relu']")
    assert examined("--select", "", "--ignore", "") == list(registry())


@pytest.mark.parametrize(
    ("arguments", "code"), [((), 0), (("--fail-on", "error"), 1)], ids=["file", "option"]
)
def test_fail_on_of_the_file_holds_unless_the_option_is_given(
    gradscope, files, configure, arguments, code
):
    configure("fail-on = 'never'")
    assert gradscope("inspect", files / "sick.keras", *arguments).code == code


def test_thresholds_of_the_file_decide_what_is_found(gradscope, files, configure):
    configure("thresholds.vanishing-gradient.error_decades = 1000")
    outcome = gradscope("inspect", files / "sick.keras", "--select", FOUND, "--format", "json")
    (finding,) = json.loads(outcome.stdout)["findings"]
    assert (finding["severity"], outcome.code) == ("warning", 0)


@pytest.mark.slow
def test_a_file_of_a_folder_above_is_found(examined, configure, tmp_path, monkeypatch):
    configure("select = ['dead-relu']")
    (tmp_path / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "down")
    assert examined() == ["dead-relu"]


def test_a_broken_file_returns_2_before_the_model_is_read(gradscope, configure):
    path = configure("select = ['ded-relu']")
    outcome = gradscope("inspect", "missing.keras")
    assert f"{path}: tool.gradscope.select: Unknown symptom 'ded-relu'" in outcome.line
    assert outcome.code == 2


@pytest.mark.parametrize(
    "arguments", [("--help",), ("inspect", "--help"), ("symptoms",)], ids=" ".join
)
def test_a_broken_file_does_not_keep_help_away(gradscope, configure, arguments):
    configure("select = ['ded-relu']")
    assert gradscope(*arguments).code == 0
