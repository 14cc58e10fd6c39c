"""What holds for every symptom in the registry, present and future; nothing here names one."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from pathlib import Path

import pytest

from gradscope import symptoms
from gradscope.diagnosis.diagnose import DATA, FIRST, diagnose
from gradscope.records import Finding, LayerProfile, Profile, Skipped
from gradscope.records.codec import from_plain, to_plain
from gradscope.symptoms import Symptom, registry
from gradscope.thresholds import Threshold
from tests.support.stripping import stripped

IDS = list(registry())
WITH_THRESHOLDS = [id for id, symptom in registry().items() if symptom.thresholds]
BASES = {"literature", "derived", "calibrated", "convention"}


def limits(symptom: Symptom) -> dict[str, float]:
    return {t.id.split(".", 1)[1]: t.value for t in symptom.thresholds}


def found(symptom: Symptom, profile: Profile, **moved: float) -> list[Finding]:
    outcome = symptom.examine(profile, {**limits(symptom), **moved})
    return [] if isinstance(outcome, Skipped) else list(outcome)


@pytest.fixture(params=IDS)
def symptom(request) -> Symptom:
    return registry()[request.param]


def test_sick_example_is_found(symptom):
    assert found(symptom, symptom.sick())


def test_sick_example_is_found_as_this_symptom_by_the_diagnosis(symptom):
    findings, checks = diagnose(symptom.sick(), select=[symptom.id])

    assert {f.symptom for f in findings} == {symptom.id}
    assert [(c.symptom, c.status) for c in checks] == [(symptom.id, "found")]


@pytest.mark.parametrize("other", IDS)
def test_healthy_examples_are_clean(symptom, other):
    findings, _ = diagnose(registry()[other].healthy(), select=[symptom.id])

    assert findings == ()


def test_examples_differ(symptom):
    assert symptom.sick() != symptom.healthy()


def test_examples_are_plain_data(symptom):
    for profile in (symptom.sick(), symptom.healthy()):
        assert from_plain(Profile, to_plain(profile)) == profile


def test_findings_carry_finite_evidence(symptom):
    for finding in found(symptom, symptom.sick()):
        assert finding.evidence
        to_plain(finding)


def test_evidence_lies_beyond_its_threshold(symptom):
    """The first piece of evidence is the number that decided."""
    for finding in found(symptom, symptom.sick()):
        first = finding.evidence[0]
        assert abs(first.observed) >= abs(first.threshold)


def test_culprits_come_first_among_the_layers(symptom):
    for finding in found(symptom, symptom.sick()):
        assert finding.layers[: len(finding.culprits)] == finding.culprits


def test_layers_of_findings_exist_and_are_named_once(symptom):
    profile = symptom.sick()
    rows = {layer.id for layer in profile.layers}
    for finding in found(symptom, profile):
        assert set(finding.layers) <= rows
        assert len(set(finding.layers)) == len(finding.layers)


def test_message_is_a_sentence_on_one_line(symptom):
    for finding in found(symptom, symptom.sick()):
        assert re.fullmatch(r"[^\n]+[.)]", finding.message)


def test_examining_changes_nothing_and_gives_the_same_again(symptom):
    profile = symptom.sick()
    before = to_plain(profile)
    first = found(symptom, profile)

    assert found(symptom, profile) == first
    assert to_plain(profile) == before


def test_a_profile_without_layers_is_not_sick(symptom):
    findings, _ = diagnose(dataclasses.replace(symptom.sick(), layers=()), select=[symptom.id])

    # The loss of the whole model may still be not finite.
    assert all(not f.layers for f in findings)


def test_clean_is_never_said_of_what_was_not_measured(symptom):
    """Whatever is taken away from what the sick example holds."""
    said = {}
    for what, poorer in stripped(symptom.sick()):
        _, (check,) = diagnose(poorer, select=[symptom.id])
        said[what] = check.status

    assert said
    assert [what for what, status in said.items() if status == "clean"] == []


def test_the_healthy_example_was_examined(symptom):
    _, (check,) = diagnose(symptom.healthy(), select=[symptom.id])

    assert check.status == "clean"


def test_what_is_noted_as_unmeasured_is_not_called_clean(symptom):
    profile = symptom.healthy()
    for measure in set(symptom.measures) - {"layers"}:
        first = dataclasses.replace(profile.layers[0], unmeasured={measure: "it refused."})
        poorer = dataclasses.replace(profile, layers=(first, *profile.layers[1:]))
        _, (check,) = diagnose(poorer, select=[symptom.id])

        assert measure in LayerProfile.__dataclass_fields__
        assert (check.status, check.reason) == ("not examined", "it refused.")


@pytest.mark.parametrize("id", WITH_THRESHOLDS)
def test_thresholds_decide(id):
    """Bounds far beyond what was observed silence the sick example, whichever way they point."""
    symptom = registry()[id]
    silenced = [
        not found(symptom, symptom.sick(), **dict.fromkeys(limits(symptom), bound))
        for bound in (1e12, -1e12)
    ]

    assert any(silenced)


@pytest.mark.parametrize(
    "id", [id for id in WITH_THRESHOLDS if any("error" in n for n in limits(registry()[id]))]
)
def test_the_error_threshold_decides_on_the_severity(id):
    symptom = registry()[id]
    moved = {name: 1e12 for name in limits(symptom) if name.startswith("error")}
    severities = {f.severity for f in found(symptom, symptom.sick(), **moved)}

    assert severities == {"warning"}


def test_id_is_in_kebab_case(symptom):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", symptom.id)


def test_nothing_precedes_what_makes_all_else_unreadable():
    order = sorted(registry().values(), key=lambda s: s.precedence)

    assert [s.id for s in order[:2]] == [DATA, FIRST]


def test_file_is_named_after_its_symptom(symptom):
    module = symptom.examine.__module__.rsplit(".", 1)[1]

    assert module == symptom.id.replace("-", "_")


@pytest.mark.parametrize("part", ["summary", "why", "measured", "silent"])
def test_what_a_user_should_know_is_said(symptom, part):
    text = getattr(symptom, part)

    assert len(text) >= 20
    assert "\n" not in text


def test_sources_are_given(symptom):
    assert all(symptom.sources)
    assert symptom.sources


@pytest.mark.parametrize("id", WITH_THRESHOLDS)
def test_thresholds_say_where_they_come_from(id):
    for threshold in registry()[id].thresholds:
        assert threshold.basis in BASES
        assert threshold.source
        assert threshold.note
        assert threshold.unit


def test_threshold_ids_are_unique():
    ids = [t.id for symptom in registry().values() for t in symptom.thresholds]

    assert len(set(ids)) == len(ids)


def test_every_file_is_in_the_registry():
    files = {p.stem for p in Path(symptoms.__file__).parent.glob("[!_]*.py")}

    assert {id.replace("-", "_") for id in IDS} == files


# ---- a registry that fails loudly


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty registry that looks for symptoms in an empty folder."""
    monkeypatch.setattr(symptoms, "__path__", [str(tmp_path)])
    monkeypatch.setattr(symptoms, "_found", {})
    monkeypatch.setattr(symptoms, "registry", registry.__wrapped__)  # past the cache
    importlib.invalidate_caches()
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith("gradscope.symptoms.zz_")]:
        del sys.modules[name]
        vars(symptoms).pop(name.rsplit(".", 1)[1], None)


WHOLE = """
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

@symptom(id="{id}", summary="", why="", measured="", silent="", treatments=(), sources=(),
         sick=lambda: None, healthy=lambda: None, thresholds={thresholds})
def examine(profile, limits):
    return []
"""


def test_a_new_file_is_all_it_takes(folder):
    (folder / "zz_added.py").write_text(WHOLE.format(id="zz-added", thresholds="()"))

    assert list(symptoms.registry()) == ["zz-added"]


def test_a_file_that_registers_nothing_is_an_error(folder):
    (folder / "zz_empty.py").write_text("x = 1\n")

    with pytest.raises(ImportError, match=r"zz_empty\.py registers no symptom"):
        symptoms.registry()


def test_a_file_that_cannot_be_imported_is_an_error(folder):
    (folder / "zz_broken.py").write_text("import no_such_module_anywhere\n")

    with pytest.raises(ImportError, match="no_such_module_anywhere"):
        symptoms.registry()


def test_a_file_that_is_no_python_is_an_error(folder):
    (folder / "zz_nonsense.py").write_text("def (:\n")

    with pytest.raises(SyntaxError):
        symptoms.registry()


def test_two_symptoms_of_one_id_are_an_error(folder):
    for name in ("zz_first.py", "zz_second.py"):
        (folder / name).write_text(WHOLE.format(id="zz-same", thresholds="()"))

    with pytest.raises(ValueError, match="Two symptoms have the id 'zz-same'"):
        symptoms.registry()


def test_a_threshold_of_another_symptom_is_an_error(folder):
    thresholds = '(Threshold("other.bound", 1.0, "x", "convention", "s", "n"),)'
    (folder / "zz_foreign.py").write_text(WHOLE.format(id="zz-foreign", thresholds=thresholds))

    with pytest.raises(ValueError, match=r"must start with 'zz-foreign\.'"):
        symptoms.registry()


def test_private_files_are_not_symptoms(folder):
    (folder / "_zz_shared.py").write_text("raise RuntimeError('never imported')\n")

    assert symptoms.registry() == {}


def test_thresholds_are_frozen():
    assert Threshold.__dataclass_params__.frozen
