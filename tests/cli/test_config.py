"""[tool.gradscope] in pyproject.toml: which file counts, what it may say, and how it is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from gradscope.cli.config import Config, find_config
from gradscope.errors import UsageError
from tests.support.refusals import refusal


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two levels down, so that no file of the machine above is met first."""
    (tmp_path / "project" / "package").mkdir(parents=True)
    return tmp_path / "project" / "package"


def write(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def config_refusal(folder: Path, text: str) -> str:
    """What is said of a pyproject.toml with `text`: one line that begins with the file."""
    path = write(folder, text)
    message = refusal(find_config, folder, error=UsageError)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


# Which file


def test_all_keys_are_read(folder):
    path = write(
        folder,
        "[tool.gradscope]\nselect = ['dead-relu', 'vanishing-gradient']\n"
        "ignore = ['dead-relu']\nfail-on = 'warning'\n"
        "[tool.gradscope.thresholds]\n'dead-relu.warning_fraction' = 0.75\n",
    )
    assert find_config(folder) == Config(
        select=("dead-relu", "vanishing-gradient"),
        ignore=("dead-relu",),
        fail_on="warning",
        thresholds={"dead-relu.warning_fraction": 0.75},
        path=path,
    )


def test_an_empty_table_is_the_default(folder):
    path = write(folder, "[tool.gradscope]\n")
    assert find_config(folder) == Config(path=path)


def test_the_nearest_file_with_the_table_counts(folder):
    write(folder.parent, "[tool.gradscope]\nfail-on = 'never'\n")
    nearest = write(folder, "[tool.gradscope]\nselect = ['dead-relu']\n")
    assert find_config(folder) == Config(select=("dead-relu",), path=nearest)


@pytest.mark.parametrize("text", ["", "tool = 3", "[tool.ruff]\n", "[project]\nname = 'x'\n"])
def test_a_file_without_the_table_is_passed_by(folder, text):
    write(folder, text)
    above = write(folder.parent, "[tool.gradscope]\nfail-on = 'never'\n")
    assert find_config(folder) == Config(fail_on="never", path=above)


def test_a_broken_file_above_the_one_that_counts_is_not_read(folder):
    write(folder.parent, "not TOML")
    path = write(folder, "[tool.gradscope]\n")
    assert find_config(folder).path == path


def test_a_folder_of_that_name_is_passed_by(folder):
    (folder / "pyproject.toml").mkdir()
    path = write(folder.parent, "[tool.gradscope]\n")
    assert find_config(folder).path == path


def test_the_example_in_the_documentation_can_be_used(folder):
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    (example,) = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    path = write(folder, example)
    assert find_config(folder) == Config(
        ignore=("mismatched-initialization",),
        fail_on="warning",
        thresholds={"vanishing-gradient.warning_decades": 4.0},
        path=path,
    )


# Thresholds


@pytest.mark.parametrize(
    "text",
    [
        "[tool.gradscope.thresholds]\n'dead-relu.warning_fraction' = 0.75",
        "[tool.gradscope.thresholds]\ndead-relu.warning_fraction = 0.75",
        "[tool.gradscope.thresholds.dead-relu]\nwarning_fraction = 0.75",
        "[tool.gradscope]\nthresholds = {dead-relu = {warning_fraction = 0.75}}",
    ],
    ids=["quoted", "dotted", "table", "inline"],
)
def test_a_threshold_may_be_written_in_every_way_of_toml(folder, text):
    write(folder, text)
    assert find_config(folder).thresholds == {"dead-relu.warning_fraction": 0.75}


def test_a_whole_number_becomes_a_float(folder):
    write(folder, "[tool.gradscope.thresholds]\nvanishing-gradient.error_decades = 6")
    (bound,) = find_config(folder).thresholds.values()
    assert (bound, type(bound)) == (6.0, float)


def test_a_threshold_in_two_forms_is_refused(folder):
    message = config_refusal(
        folder,
        "[tool.gradscope.thresholds]\n'dead-relu.warning_fraction' = 0.75\n"
        "dead-relu.warning_fraction = 0.8\n",
    )
    assert message == (
        "tool.gradscope.thresholds: 'dead-relu.warning_fraction' is set twice: keep one."
    )


# Refused


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fail_on = 'error'", "tool.gradscope: Unknown key 'fail_on'. Did you mean: fail-on"),
        ("zzz = 1", "tool.gradscope: Unknown key 'zzz'. Expected one of fail-on, ignore, select"),
        ("select = 'dead-relu'", "select: Expected a list of symptom ids. Received: 'dead-relu'"),
        ("ignore = [3]", "ignore: Expected a list of symptom ids. Received: [3]"),
        ("select = ['ded-relu']", "select: Unknown symptom 'ded-relu'. Did you mean: dead-relu"),
        ("ignore = ['zzz']", "ignore: Unknown symptom 'zzz'. See 'gradscope symptoms'"),
        ("select = ['dead-relu']\nignore = ['dead-relu']", "ignore: No symptom is left"),
        ("fail-on = 'info'", "fail-on: Expected one of error, warning, never. Received: 'info'"),
        ("fail-on = ['error']", "fail-on: Expected one of error, warning, never"),
        ("thresholds = 3", "thresholds: Expected a table of '<symptom>.<name>' = number"),
    ],
)
def test_a_key_or_value_that_cannot_be_is_refused(folder, line, expected):
    assert expected in config_refusal(folder, f"[tool.gradscope]\n{line}\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dead-relu.warning_share = 0.5", "Did you mean: dead-relu.warning_fraction"),
        ("dead-relu = 0.5", "Did you mean: dead-relu."),
        ("zzz.zzz = 0.5", "See 'gradscope thresholds'"),
        ("dead-relu.warning_fraction = 'half'", "must be a number from 0 to 1"),
        ("dead-relu.warning_fraction.low = 0.5", "Received: {'low': 0.5}"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused(folder, line, expected):
    message = config_refusal(folder, f"[tool.gradscope.thresholds]\n{line}\n")
    assert message.startswith("tool.gradscope.thresholds: ")
    assert expected in message


def test_something_else_than_a_table_is_refused(folder):
    message = config_refusal(folder, "[tool]\ngradscope = 3\n")
    assert message.startswith("tool.gradscope: Expected a table with fail-on, ignore, select")


@pytest.mark.parametrize(
    "text", ["[tool.gradscope", "a = 1\na = 2", f"a = {'[' * 100_000}"], ids=len
)
def test_a_file_that_is_not_toml_is_refused(folder, text):
    assert config_refusal(folder, text).startswith("expected a TOML file in UTF-8. ")


def test_a_file_in_another_encoding_is_refused(folder):
    (folder / "pyproject.toml").write_bytes("# Größe".encode("latin-1"))
    with pytest.raises(UsageError, match="expected a TOML file in UTF-8"):
        find_config(folder)


def test_a_file_that_may_not_be_read_is_refused(folder, monkeypatch):
    path = write(folder, "[tool.gradscope]\n")

    # Not by chmod: the superuser may read everything.
    def refuse(*args, **kwargs):
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UsageError) as caught:
        find_config(folder)
    assert str(caught.value) == f"{path}: cannot be read: Permission denied."
