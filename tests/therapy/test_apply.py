"""gradscope.apply: prescriptions of a report, carried out on a copy."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.errors import UsageError
from gradscope.records import Prescription
from gradscope.surgery.graph import copy_model
from gradscope.therapy.apply_prescriptions import Treated
from tests.programs.own_steps import PROGRAMS, Oscillator
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.snapshot import Snapshot


def sigmoids() -> keras.Model:
    hidden = [layers.Dense(16, "sigmoid", name=f"hidden_{i}") for i in range(12)]
    return sequential(*hidden, layers.Dense(1, name="out"))


@pytest.fixture(scope="module")
def examined():
    keras.utils.set_random_seed(0)
    model, x = sigmoids(), normal(128, 8)
    return model, x, gradscope.analyze(model, x, normal(128, 1, seed=1))


def named(report, treatment: str) -> Prescription:
    return next(p for p in report.prescriptions if p.treatment == treatment)


@pytest.mark.slow
def test_the_report_prescribes_what_answers_its_findings(examined):
    _, _, report = examined

    assert report.prescriptions[0].treatment == "swap-activation"
    assert "vanishing-gradient" in report.prescriptions[0].resolves
    assert all(p.rationale and p.snippet and p.sources for p in report.prescriptions)
    assert all(d.reason for d in report.declined)


def test_a_healthy_model_is_prescribed_nothing():
    model = sequential(layers.Dense(16, "relu"), layers.Dense(1))
    report = gradscope.analyze(model, normal(128, 8), normal(128, 1, seed=1))

    assert report.prescriptions == ()
    assert report.declined == ()


def test_a_prescription_is_carried_out_on_a_copy(examined):
    model, x, report = examined
    before = Snapshot(model)
    treated = gradscope.apply(model, [named(report, "swap-activation")], x)

    assert before.differences(Snapshot(model)) == []
    assert treated.model.get_layer("hidden_3").activation is keras.activations.relu
    assert treated.declined == ()
    assert treated.drift > 0


def test_one_prescription_is_as_good_as_a_list_of_one(examined):
    model, x, report = examined
    one = gradscope.apply(model, report.prescriptions[0], x)
    listed = gradscope.apply(model, report.prescriptions[:1], x)

    assert one.prescriptions == listed.prescriptions == report.prescriptions[:1]
    assert one.reset == listed.reset


def test_it_is_one_line_at_a_prompt(examined):
    model, x, report = examined
    treated = gradscope.apply(model, named(report, "swap-activation"), x)

    assert repr(treated) == (
        f"<Treated by 'swap-activation': declined: 0, drift: {treated.drift:.3g}>"
    )


def test_prescriptions_are_carried_out_one_after_the_other(examined):
    model, x, report = examined
    chosen = [named(report, "swap-activation"), named(report, "batch-normalization")]
    treated = gradscope.apply(model, chosen, x)
    classes = [type(layer).__name__ for layer in treated.model.layers]

    assert treated.prescriptions == tuple(chosen)
    assert classes.count("BatchNormalization") == 12
    assert treated.added


@pytest.mark.slow
def test_the_treated_model_is_healthier(examined):
    model, x, report = examined
    treated = gradscope.apply(model, [named(report, "swap-activation")], x)
    after = gradscope.analyze(treated.model, x, normal(128, 1, seed=1))

    assert "vanishing-gradient" not in {f.symptom for f in after.findings}


def test_nothing_to_carry_out_leaves_the_patient(examined):
    model, x, _ = examined
    treated = gradscope.apply(model, [], x)

    assert treated.model is model
    assert treated.drift == 0.0


@pytest.mark.slow
def test_drift_is_the_change_of_the_outputs_over_their_size(examined):
    model, x, report = examined
    treated = gradscope.apply(model, [named(report, "swap-activation")], x)
    a, b = (np.asarray(m(x[:32])) for m in (treated.model, model))

    expected = np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))
    assert treated.drift == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_without_inputs_the_drift_is_not_known(examined):
    model, _, report = examined

    assert gradscope.apply(model, [named(report, "swap-activation")]).drift is None


def test_an_unknown_treatment_names_the_nearest(examined):
    model, _, report = examined
    wrong = dataclasses.replace(report.prescriptions[0], treatment="swap-activations")

    with pytest.raises(UsageError, match="Did you mean: swap-activation"):
        gradscope.apply(model, [wrong])


def smoothed(model: keras.Model, x) -> Treated:
    """With tanh in the place of the hidden rectifiers, by a prescription made by hand."""
    prescription = Prescription(
        treatment="swap-activation",
        safety="unsafe",
        layers=tuple(f"net/h{n}" for n in (1, 2, 3)),
        resolves=("disconnected-layer",),
        rationale="made by hand.",
        snippet="pass",
        parameters={
            "activations": dict.fromkeys([f"net/h{n}" for n in (1, 2, 3)], "tanh"),
            "initializers": {},
            "zero_biases": [],
        },
        sources=(),
    )
    return gradscope.apply(model, [prescription], x)


EQUATION = next(p for p in PROGRAMS if p.id == "equation-relu")


def test_own_code_is_treated_in_place_and_keeps_its_train_step():
    treated = smoothed(EQUATION.build(), EQUATION.load().x)
    copy = treated.model

    assert treated.declined == ()
    assert type(copy) is Oscillator
    assert [layer.activation.__name__ for layer in copy.net.layers[:3]] == ["tanh"] * 3
    again = copy_model(copy)
    assert again.net.layers[0].activation is keras.activations.tanh


def test_what_a_file_of_own_code_loses_is_told(tmp_path):
    """Its config says "relu", and its code makes the layers of that."""
    model, x = EQUATION.build(), EQUATION.load().x
    treated = smoothed(model, x)
    treated.model.save(tmp_path / "copy.keras")
    loaded = keras.saving.load_model(tmp_path / "copy.keras")

    assert loaded.net.layers[0].activation is keras.activations.relu
    assert "Oscillator makes these layers in its own code" in treated.prescriptions[0].snippet


@keras.saving.register_keras_serializable("test_apply")
class Holder(keras.Model):
    """Own code whose config holds the network itself."""

    def __init__(self, net, **options):
        super().__init__(**options)
        self.net = net

    def get_config(self):
        return {**super().get_config(), "net": keras.saving.serialize_keras_object(self.net)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("net")), **config)

    def call(self, x):
        return self.net(x)


def test_nothing_is_told_where_the_config_holds_what_was_changed(tmp_path):
    model, x = Holder(EQUATION.build().net), EQUATION.load().x
    model.compile("adam", "mse")
    model(x)
    treated = smoothed(model, x)
    treated.model.save(tmp_path / "copy.keras")
    loaded = keras.saving.load_model(tmp_path / "copy.keras")

    assert treated.prescriptions[0].snippet == "pass"
    assert np.array_equal(loaded(x), treated.model(x))


@pytest.mark.slow
def test_a_differential_equation_is_solved_by_the_treated_copy():
    data = EQUATION.load()
    copy = smoothed(EQUATION.build(), data.x).model

    keras.utils.set_random_seed(1)
    EQUATION.train(copy, data, EQUATION.budget())

    assert EQUATION.has_learned(EQUATION.metric(copy, data))
