"""One sentence that says how bad it is, who causes it and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gradscope.records import Check, DataCard, Rehearsal, YardstickRun
from gradscope.render.values import number
from gradscope.render.verdict import verdict
from tests.support.factories import finding, healthy_report, report, sick_sigmoid_report
from tests.support.reports import treated_report, trial_only_report


@pytest.mark.parametrize("severity", ["error", "warning", "info"])
def test_level_is_the_worst_severity(severity):
    mild = finding("dead-relu", ("dense_0",), severity="info")
    worst = finding("vanishing-gradient", ("dense_0",), severity=severity)
    found = report(healthy_report().layers, (mild, worst))
    assert verdict(found.to_plain()).level == severity


def test_sentence_names_symptom_measurement_and_culprits():
    sentence = verdict(sick_sigmoid_report().to_plain()).sentence
    assert sentence == (
        "Vanishing gradient: dense_0 to dense_18 each shrink the gradient 7 times, "
        "caused by dense_0 … dense_18 (19 layers); 1 more symptom found."
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("The inputs reach 3.5e4. A step is too long.", "the inputs reach 3.5e4"),
        ("SGD at 0.1 diverges (above 0.05). So do others.", "SGD at 0.1 diverges"),
        ("Dense_1 of U.S. units", "Dense_1 of U.S. units"),
    ],
)
def test_sentence_is_the_first_of_the_message(message, told):
    found = replace(finding("dead-relu", ()), message=message, layers=())
    opinion = verdict(report(healthy_report().layers, (found,)).to_plain())
    assert opinion.sentence == f"Dead ReLU: {told}."


def test_several_findings_of_one_symptom_are_one_symptom():
    found = tuple(finding("dead-relu", (f"dense_{i}",)) for i in range(2))
    sentence = verdict(report(healthy_report().layers, found).to_plain()).sentence
    assert sentence.startswith("Dead ReLU: ")
    assert sentence.endswith(", caused by dense_0.")


def test_a_symptom_that_no_one_explains_is_named():
    found = report(healthy_report().layers, (finding("odd-thing", ("dense_0",)),))
    assert verdict(found.to_plain()).sentence == (
        "Odd thing: a message about odd-thing, caused by dense_0."
    )


def test_headline_leaves_the_culprits_out():
    headline = verdict(sick_sigmoid_report().to_plain()).headline
    assert headline.endswith("7 times; 1 more symptom found.")


def test_culprits_of_the_worst_come_first():
    mild = finding("dead-relu", ("dense_0",), severity="warning")
    worst = finding("vanishing-gradient", ("dense_3", "dense_0"))
    found = report(healthy_report().layers, (mild, worst))
    assert verdict(found.to_plain()).culprits == ("dense_3", "dense_0")


def test_a_clean_start_says_that_training_was_not_examined():
    opinion = verdict(healthy_report().to_plain())
    assert (opinion.level, opinion.sentence) == (
        "clean start",
        "No symptom at the start; training was not examined: 1 symptom examined, 1 not examined.",
    )
    assert "gradscope.rehearse" in opinion.advice[0]


def rehearsed(share: float | None, yardstick: float | None = 0.9) -> dict[str, Any]:
    beside = YardstickRun("dense network", 200, 1.0, 0.1, yardstick, yardstick, 3.0)
    made = Rehearsal(
        200, 2.0, "steps", "explained", share, share, 0.1, yardstick=beside if yardstick else None
    )
    return replace(healthy_report(), rehearsal=made).to_plain()


def test_healthy_says_what_the_training_came_to():
    opinion = verdict(rehearsed(0.87))
    assert opinion.level == "healthy"
    assert (
        "200 steps of training, explained variance 0.87 (a plain network 0.9)" in opinion.sentence
    )


@pytest.mark.parametrize("share", [-0.5, 0.05])
def test_a_model_no_better_than_a_constant_is_not_healthy(share):
    assert verdict(rehearsed(share, 0.1)).level == "nothing learned"


def test_a_training_that_cannot_be_scored_is_healthy_where_nothing_was_found():
    assert verdict(rehearsed(None, None)).level == "healthy"


def test_notes_of_a_rehearsal_do_not_make_it_sick():
    note = finding("dead-relu", ("dense_0",), severity="info")
    plain = {**rehearsed(0.87), "findings": report((), (note,)).to_plain()["findings"]}
    assert verdict(plain).level == "healthy"
    assert verdict(plain).sentence.endswith("; 1 note.")


def test_a_trial_alone_is_the_verdict():
    opinion = verdict(trial_only_report().to_plain())
    assert opinion.level == "tried"
    assert opinion.sentence.startswith("Swap activation: improved (1 seed, 200 steps). Accuracy")


def test_nothing_examined_is_not_healthy():
    assert verdict(report((), checks=()).to_plain()).level == "not examined"


def test_only_symptoms_that_lack_data_are_a_caveat():
    checks = (
        Check("dead-unit", "not examined", "the inputs were made up", lacks_data=True),
        Check("loss-plateau", "not examined", "needs a run on your data"),
    )
    (caveat,) = verdict(replace(healthy_report(), checks=checks).to_plain()).caveats
    assert caveat.startswith("1 symptom could not be examined")


def test_prescriptions_become_advice():
    advice = verdict(sick_sigmoid_report().to_plain()).advice
    assert advice[0].startswith(
        "swap-activation on dense_0 … dense_18 (19 layers) [changes the function]: A sigmoid"
    )


def test_a_prescription_without_layers_names_none():
    report = sick_sigmoid_report()
    first = replace(report.prescriptions[0], treatment="learning-rate", layers=())
    advice = verdict(replace(report, prescriptions=(first,)).to_plain()).advice
    assert advice[0].startswith("learning-rate [changes the function]: A sigmoid")


def test_what_a_treatment_kept_is_the_first_advice():
    advice = verdict(treated_report().to_plain()).advice
    assert [text.split()[0] for text in advice] == ["he-initialization", "swap-activation"]


def test_treatments_become_advice_where_nothing_is_prescribed():
    advice = verdict(replace(sick_sigmoid_report(), prescriptions=()).to_plain()).advice
    assert advice[0] == "For vanishing gradient: swap-activation first, then he-initialization."


def test_synthetic_data_is_pointed_out():
    made_up = replace(healthy_report(), data=DataCard("synthetic", 32, 1))
    assert any("--data" in sentence for sentence in verdict(made_up.to_plain()).advice)


def test_a_treated_report_leads_with_what_was_achieved():
    treated = treated_report()
    told = verdict(treated.to_plain())
    [trial] = treated.trials
    ends = [
        sum(run.checkpoints[-1].metric for run in arm.runs) / len(arm.runs)
        for arm in (trial.before, trial.after)
    ]

    assert told.level == "improved"
    expected = f"accuracy {number(ends[0])} → {number(ends[1])}, proven over 3 seeds."
    assert told.headline == f"He initialization: {expected}"
    assert told.before.startswith("Vanishing gradient: ")


def test_what_did_not_improve_is_not_said_to_have():
    failed = replace(treated_report(), outcome="not improved")

    assert verdict(failed.to_plain()).level == "error"
