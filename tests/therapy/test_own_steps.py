"""Models with a train_step of their own, from the first look to what treat makes of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import gradscope
from tests.clinic.data import Data
from tests.programs.own_steps import PROGRAMS
from tests.programs.program import Program
from tests.support import adversarial

pytestmark = pytest.mark.slow


def test_a_gan_is_called_healthy_only_once_its_training_was_rehearsed():
    start = gradscope.analyze(adversarial.build_gan(), adversarial.X)
    rehearsed = gradscope.rehearse(adversarial.build_gan(), adversarial.X)

    assert "not examined" in start.summary().splitlines()[0]
    assert rehearsed.rehearsal is not None
    assert rehearsed.history is not None
    assert rehearsed.summary().startswith("HEALTHY")


def test_a_gan_that_is_sick_is_told_why_nothing_is_tried_on_it():
    """The losses of two players say nothing of progress, so no trial compares them."""
    outcome = gradscope.treat(adversarial.build_gan(rates=(5.0, 5.0)), adversarial.X)
    reasons = {d.what: d.reason for d in outcome.rejected}

    assert outcome.status == "nothing to prescribe"
    assert [f for f in outcome.report.findings if f.severity == "error"]
    assert "returns no 'loss'" in reasons["gradient-clipping"]
    assert "could be compared by training" in outcome.summary()
    assert "gradscope.apply(model, outcome.report.prescriptions[0], x)" in outcome.next_steps


def test_a_prescription_is_carried_out_on_a_gan():
    patient = adversarial.build_gan(rates=(5.0, 5.0))
    report = gradscope.rehearse(patient, adversarial.X)
    [slower] = [p for p in report.prescriptions if p.treatment == "learning-rate"]

    treated = gradscope.apply(patient, [slower], adversarial.X)

    assert treated.drift is None
    assert float(treated.model.g_optimizer.learning_rate) < 5.0
    treated.model.fit(adversarial.X, verbose=0)


def treated(id: str) -> tuple[Program, Data, gradscope.Outcome]:
    [program] = [p for p in PROGRAMS if p.id == id]
    data = program.load()
    return program, data, gradscope.treat(program.build(), data.x, batch_size=program.batch_size)


def test_a_differential_equation_is_solved_by_smooth_activations_and_by_nothing_else():
    program, data, outcome = treated("equation-relu")
    keras.utils.set_random_seed(1)
    program.train(outcome.model, data, program.budget())

    assert outcome.status == "improved"
    assert [p.treatment for p in outcome.prescriptions] == ["swap-activation"]
    assert program.has_learned(program.metric(outcome.model, data))


def test_an_autoencoder_on_unscaled_columns_no_longer_ends_in_nan():
    program, data, outcome = treated("autoencoder-exp-overflow")
    losses = outcome.model.fit(data.x, epochs=5, verbose=0).history["loss"]

    assert outcome.status == "improved"
    assert "input-normalization" in [p.treatment for p in outcome.prescriptions]
    assert type(outcome.model) is type(program.build())
    assert np.isfinite(losses).all()
    assert "x = (x - x.mean(0)) / x.std(0)" in outcome.next_steps
