"""What every treatment must keep to, over sick models of every kind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from gradscope import symptoms, treatments
from gradscope.backend.sites import own_variables, sites
from gradscope.records import Declined, Prescription
from gradscope.records.codec import from_plain, loads, to_plain
from gradscope.surgery.graph import Surgery
from gradscope.treatments import registry
from tests.support.sick_models import ZOO, Outcome, examined, outcome, predictions, requests
from tests.support.treated import first, profile_of, through_file

IDS = sorted(registry())
OWN_CALL = ("subclassed",)
ONLY_ADVICE = ("longer-training",)


@pytest.fixture(params=IDS)
def treatment(request):
    return registry()[request.param]


@pytest.fixture
def outcomes(treatment) -> list[Outcome]:
    """What the treatment came to on every model of the zoo."""
    return [outcome(treatment.id, kind) for kind in ZOO]


@pytest.fixture
def operated(outcomes) -> list[Outcome]:
    """The outcomes on those models that the treatment was carried out on."""
    return [each for each in outcomes if isinstance(each.surgery, Surgery)]


# ---- what is said about it


def test_file_is_named_after_its_treatment(treatment):
    module = treatment.operate.__module__.rsplit(".", 1)[1]

    assert module == treatment.id.replace("-", "_")


def test_id_is_in_kebab_case(treatment):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", treatment.id)


@pytest.mark.parametrize("part", ["summary", "why", "caution"])
def test_what_a_user_should_know_is_said(treatment, part):
    text = getattr(treatment, part)

    assert len(text) >= 20
    assert "\n" not in text


def test_sources_are_given(treatment):
    assert treatment.sources
    assert all(treatment.sources)


def test_every_file_is_in_the_registry():
    files = {p.stem for p in Path(treatments.__file__).parent.glob("[!_]*.py")}

    assert {id.replace("-", "_") for id in IDS} == files


def test_every_treatment_that_a_symptom_names_exists():
    named = {id for symptom in symptoms.registry().values() for id in symptom.treatments}

    assert named <= set(IDS)


@pytest.mark.slow
def test_every_treatment_is_carried_out_on_some_model(operated, treatment):
    assert bool(operated) != (treatment.id in ONLY_ADVICE)


# ---- the plan


def test_a_decline_says_why(outcomes):
    for each in outcomes:
        for declined in (each.prescription, each.surgery):
            if isinstance(declined, Declined):
                assert len(declined.reason) >= 15, each.kind
                assert "\n" not in declined.reason, each.kind


def test_a_prescription_is_complete(operated, treatment):
    for each in operated:
        given = each.prescription
        paths = {site.path for site in sites(each.patient)}

        assert given.treatment == treatment.id
        assert set(given.layers) <= paths, each.kind
        assert re.fullmatch(r"[^\n]{20,}[.]", given.rationale), each.kind
        assert json.loads(json.dumps(given.parameters)) == given.parameters, each.kind
        assert given.sources == treatment.sources
        compile(given.snippet, "snippet", "exec")


def test_a_prescription_survives_a_report(operated):
    for each in operated:
        text = json.dumps(to_plain(each.prescription))

        assert from_plain(Prescription, loads(text)) == each.prescription, each.kind


def test_a_plan_is_the_same_again(outcomes, treatment):
    for each in outcomes:
        *_, profile = examined(each.kind)

        assert treatment.plan(profile, requests(treatment.id, profile)) == each.prescription


# ---- the operation


def test_the_patient_is_left_as_it_was(outcomes):
    for each in outcomes:
        assert each.changed == (), each.kind


def test_a_model_with_a_graph_can_be_edited(outcomes, treatment):
    """It is for the treatment to decline, by its own id, and not for the surgery."""
    for each in outcomes:
        if isinstance(each.surgery, Declined) and each.kind not in OWN_CALL:
            assert each.surgery.what == treatment.id, each.surgery


def test_nothing_is_shared_with_the_patient(operated):
    for each in operated:
        models = (each.patient, each.surgery.model)
        patients, own = ({id(p) for p in (*m.variables, *m._flatten_layers())} for m in models)

        assert own.isdisjoint(patients), each.kind


@pytest.mark.slow
def test_shapes_of_the_outputs_are_kept(operated, treatment):
    if "outputs" in treatment.changes:
        return
    for each in operated:
        before, after = both_predictions(each)

        assert [a.shape for a in after] == [b.shape for b in before], each.kind


@pytest.mark.slow
def test_what_is_safe_keeps_outputs_and_weights(operated):
    for each in operated:
        if each.prescription.safety == "safe":
            before, after = both_predictions(each)

            assert all(map(np.array_equal, after, before)), each.kind
            assert each.surgery.reset == (), each.kind


def test_what_is_said_to_be_kept_is_kept(operated):
    for each in operated:
        before = {site.path: site for site in sites(each.patient)}
        after = {site.path: site for site in sites(each.surgery.model)}
        for path in set(each.surgery.kept) & before.keys():
            pairs = zip(own_variables(before[path]), own_variables(after[path]), strict=True)
            same = [np.array_equal(old.numpy(), new.numpy()) for old, new in pairs]

            assert all(same), (each.kind, path)


def test_all_weights_are_either_kept_or_reset(operated):
    for each in operated:
        surgery = each.surgery
        weighted = {s.path for s in sites(surgery.model) if s.kind != "graph" and own_variables(s)}

        assert weighted <= {*surgery.kept, *surgery.reset}, each.kind
        assert set(surgery.kept).isdisjoint(surgery.reset), each.kind


@pytest.mark.slow
def test_the_result_survives_a_file(operated, treatment):
    for each in operated:
        again = through_file(each.surgery.model)
        before, after = (predictions(model, each.x) for model in (each.surgery.model, again))
        if each.kind in OWN_CALL and "attributes" in treatment.changes:
            continue
        for old, new in zip(before, after, strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6, err_msg=each.kind)


def test_layers_that_are_added_are_keras_own(operated):
    for each in operated:
        layers = {site.path: site.layer for site in sites(each.surgery.model)}
        added = [type(layers[path]) for path in each.surgery.added]

        assert all(kind.__module__.startswith("keras.") for kind in added), each.kind


def test_the_result_is_compiled_like_the_patient(operated, treatment):
    for each in operated:
        optimizer = each.surgery.model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)

        same = type(inner) is type(each.patient.optimizer)
        assert same != ("optimizer" in treatment.changes), each.kind
        assert each.surgery.model.jit_compile == each.patient.jit_compile, each.kind


@pytest.mark.slow
def test_applied_twice_it_declines_or_adds_no_more(operated, treatment):
    """Asked for again on the treated model by the same symptoms."""
    for each in operated:
        profile, _ = profile_of(each.surgery.model, each.x, each.y)
        again = treatment.plan(profile, requests(treatment.id, profile))
        if isinstance(again, Prescription):
            again = treatment.operate(each.surgery.model, again, each.x)
        if isinstance(again, Surgery):
            before, after = ({s.path for s in sites(m)} for m in (each.surgery.model, again.model))
            assert before == after, each.kind


@pytest.mark.slow
def test_the_result_takes_a_step(operated):
    """Last, because it changes the treated model."""
    for each in operated:
        losses = each.surgery.model.train_on_batch(*first(each.x, each.y))

        assert np.isfinite(losses).all(), each.kind


def both_predictions(each: Outcome) -> list[list[np.ndarray]]:
    return [predictions(model, each.x) for model in (each.patient, each.surgery.model)]
