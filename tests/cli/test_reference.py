"""`gradscope explain` and `gradscope thresholds`: what is known, in a pipe and on a terminal."""

from __future__ import annotations

import json
import re

import pytest

from gradscope import treatments
from gradscope.symptoms import registry

SYMPTOMS = list(registry().values())
REMEDIES = list(treatments.registry().values())
THRESHOLDS = [threshold for symptom in SYMPTOMS for threshold in symptom.thresholds]
every = pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda symptom: symptom.id)
ESCAPE = "\x1b"


@pytest.fixture
def terminal(gradscope, monkeypatch):
    """Run `gradscope ARGUMENTS...` on a terminal with colours, 60 columns wide."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return gradscope


@pytest.fixture
def configured(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        "[tool.gradscope.thresholds]\n'dead-relu.warning_fraction' = 0.75\n"
    )


def words(text: str) -> str:
    """`text` without colours, list markers and the place of its line breaks."""
    uncoloured = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return " ".join(re.sub(r"^ *- ", "", uncoloured, flags=re.MULTILINE).split())


# explain


@every
def test_everything_that_is_known_of_a_symptom_is_explained(gradscope, symptom):
    told = words(gradscope("explain", symptom.id).stdout)
    known = [symptom.id, symptom.summary, symptom.why, symptom.measured, symptom.silent]
    known += [*symptom.treatments, *symptom.sources]
    assert [text for text in known if words(text) not in told] == []


@every
def test_every_threshold_is_explained_with_its_origin(gradscope, symptom):
    told = words(gradscope("explain", symptom.id).stdout)
    expected = [
        f"{t.id} {t.value:g} {t.unit} ({t.basis}) {t.note} Source: {t.source}"
        for t in symptom.thresholds
    ]
    assert [text for text in expected if words(text) not in told] == []


def test_the_sections_come_in_the_order_in_which_they_are_asked_for(gradscope):
    lines = gradscope("explain", "dead-relu").stdout.splitlines()[1:]
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "Why it hurts",
        "How it is measured",
        "What it needs",
        "When it is not reported",
        "Thresholds",
        "Treatments, best first",
        "Sources",
    ]


@pytest.mark.parametrize(
    ("symptom", "heading"),
    [
        ("disconnected-layer", "What it needs"),
        ("disconnected-layer", "Thresholds"),
        ("non-finite-data", "Treatments"),
    ],
)
def test_a_section_without_content_is_left_out(gradscope, symptom, heading):
    assert heading not in gradscope("explain", symptom).stdout


@every
def test_in_a_pipe_it_is_plain_text_of_100_columns(gradscope, symptom):
    text = gradscope("explain", symptom.id).stdout
    assert ESCAPE not in text
    assert [x for x in text.splitlines() if len(x) > 100 or x != x.rstrip()] == []


def test_on_a_terminal_headings_are_bold_and_lines_fit(terminal):
    text = terminal("explain", "dead-relu").stdout
    assert f"{ESCAPE}[1mWhy it hurts{ESCAPE}[0m" in text
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", x).rstrip()) for x in text.splitlines()) <= 60


def test_explaining_shows_the_bound_in_force(gradscope, configured, tmp_path):
    told = "".join(gradscope("explain", "dead-relu").stdout.split())
    assert "dead-relu.warning_fraction0.75fraction(configured)" in told
    assert "Insteadof0.5(convention)" in told
    assert f"Source:{tmp_path / 'pyproject.toml'};" in told


# thresholds


def test_in_a_pipe_every_threshold_is_one_line_below_the_header(gradscope):
    header, *lines = gradscope("thresholds").stdout.splitlines()
    assert header.split() == ["id", "value", "unit", "basis", "note"]
    assert [re.split(r"\s{2,}", line) for line in lines] == [
        [t.id, f"{t.value:g}", t.unit, t.basis, t.note] for t in THRESHOLDS
    ]


def test_on_a_terminal_every_threshold_has_its_note_and_lines_fit(terminal):
    text = terminal("thresholds").stdout
    told = words(text)
    assert [t.id for t in THRESHOLDS if words(f"({t.basis}) {t.note}") not in told] == []
    ids = [line for line in words(text).split() if line in {t.id for t in THRESHOLDS}]
    assert ids == [t.id for t in THRESHOLDS]


def test_an_overridden_threshold_is_marked_and_the_others_are_not(gradscope, configured):
    lines = gradscope("thresholds").stdout.splitlines()
    (marked,) = [line for line in lines if "configured" in line]
    assert re.split(r"\s{2,}", marked)[:4] == [
        *("dead-relu.warning_fraction", "0.75", "fraction", "configured")
    ]
    assert "Instead of 0.5 (convention)" in marked


@pytest.mark.parametrize("arguments", [("thresholds",), ("explain", "dead-relu")])
def test_a_broken_configuration_returns_2(gradscope, tmp_path, arguments):
    (tmp_path / "pyproject.toml").write_text("[tool.gradscope]\nselct = []\n")
    outcome = gradscope(*arguments)
    assert f"{tmp_path / 'pyproject.toml'}: tool.gradscope: Unknown key 'selct'" in outcome.line
    assert outcome.code == 2


@pytest.mark.parametrize("command", ["thresholds", "explain"])
def test_a_control_character_in_a_folder_does_not_reach_the_terminal(
    gradscope, configured, tmp_path, monkeypatch, command
):
    folder = tmp_path / "\x1b[31mred"
    folder.mkdir()
    (tmp_path / "pyproject.toml").rename(folder / "pyproject.toml")
    monkeypatch.chdir(folder)
    arguments = ["explain", "dead-relu"] if command == "explain" else ["thresholds"]
    outcome = gradscope(*arguments)
    assert "configured" in outcome.stdout
    assert ESCAPE not in outcome.stdout


# treatments


@pytest.mark.parametrize("treatment", REMEDIES, ids=lambda treatment: treatment.id)
def test_everything_that_is_known_of_a_treatment_is_explained(gradscope, treatment):
    told = words(gradscope("explain", treatment.id).stdout)
    answered = [s.id for s in SYMPTOMS if treatment.id in s.treatments]
    known = [treatment.id, treatment.summary, treatment.why, treatment.caution]
    assert [
        text for text in [*known, *answered, *treatment.sources] if words(text) not in told
    ] == []


def test_treatments_are_listed_with_their_summaries(gradscope):
    lines = gradscope("treatments").stdout.splitlines()
    assert [line.split(None, 1) for line in lines] == [[t.id, t.summary] for t in REMEDIES]


def test_every_treatment_that_a_symptom_names_exists():
    named = {id for symptom in SYMPTOMS for id in symptom.treatments}
    assert named <= {treatment.id for treatment in REMEDIES}


def test_a_misspelt_treatment_names_the_nearest(gradscope):
    done = gradscope("explain", "gradient-cliping")
    assert done.code == 2
    assert "Did you mean: gradient-clipping" in done.stderr


# JSON


@pytest.mark.parametrize(
    ("command", "known"),
    [("symptoms", SYMPTOMS), ("treatments", REMEDIES), ("thresholds", THRESHOLDS)],
    ids=["symptoms", "treatments", "thresholds"],
)
def test_a_list_is_printed_as_json(gradscope, command, known):
    rows = json.loads(gradscope(command, "--json").stdout)

    assert [row["id"] for row in rows] == [entry.id for entry in known]
    assert all("sources" in row or "source" in row for row in rows)


def test_the_schema_is_that_of_reports(gradscope):
    schema = json.loads(gradscope("schema").stdout)

    assert schema["properties"]["schema"] == {"const": "gradscope.report/1"}
    assert set(schema["required"]) == {"model", "data", "loss", "layers", "checks", "findings"}
