"""loss-scaling: a LossScaleOptimizer where float16 loses gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import planned, profile_of, same_outputs, treated

ID = "loss-scaling"
SYMPTOM = "gradient-underflow"
X, Y = normal(64, 8), normal(64, 2, seed=1)


def model(policy="mixed_float16", **compiled):
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(16, "tanh", dtype=policy) for _ in range(3)]
    patient = keras.Sequential([keras.Input((8,)), *hidden, layers.Dense(2, dtype="float32")])
    patient.compile(keras.optimizers.SGD(1e-3), "mse", **compiled)
    return patient


@pytest.mark.slow
def test_wraps_the_optimizer_and_keeps_the_rest():
    patient = model(metrics=["mae"])

    surgery = treated(ID, patient, X, Y, symptom=SYMPTOM)

    optimizer = surgery.model.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(optimizer.inner_optimizer, keras.optimizers.SGD)
    assert float(optimizer.learning_rate) == pytest.approx(1e-3)
    assert same_outputs(surgery.model, patient, X)
    assert "mae" in surgery.model.evaluate(X, Y, verbose=0, return_dict=True)


@pytest.mark.slow
def test_the_gradients_that_were_lost_arrive():
    patient = model()
    labels = patient.predict(X, verbose=0) + 1e-5 * Y
    before, findings = profile_of(patient, X, labels)
    assert SYMPTOM in {f.symptom for f in findings}

    copy = treated(ID, patient, X, labels, symptom=SYMPTOM).model

    after, findings = profile_of(copy, X, labels)
    assert SYMPTOM not in {f.symptom for f in findings}
    assert after.layers[0].underflow_fraction < 0.1 < before.layers[0].underflow_fraction


@pytest.mark.slow
def test_what_a_built_optimizer_has_gathered_stays():
    patient = model()
    patient.compile(keras.optimizers.Adam(1e-3), "mse")
    patient.fit(X, Y, epochs=1, verbose=0)

    copy = treated(ID, patient, X, Y, symptom=SYMPTOM).model

    held = copy.optimizer.inner_optimizer.variables
    for before, after in zip(patient.optimizer.variables, held, strict=True):
        np.testing.assert_array_equal(before.numpy(), after.numpy())


@pytest.mark.slow
def test_twice_is_declined():
    copy = treated(ID, model(), X, Y, symptom=SYMPTOM).model

    assert "already" in planned(ID, copy, X, Y, symptom=SYMPTOM).reason


@pytest.mark.slow
def test_a_model_whose_own_policy_is_mixed():
    patient = model()
    patient.dtype_policy = keras.mixed_precision.DTypePolicy("mixed_float16")
    patient.compile(keras.optimizers.SGD(1e-3), "mse", auto_scale_loss=False)

    copy = treated(ID, patient, X, Y, symptom=SYMPTOM).model

    assert isinstance(copy.optimizer, keras.optimizers.LossScaleOptimizer)
    assert not hasattr(copy.optimizer.inner_optimizer, "inner_optimizer")


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_other_types_are_declined(policy):
    declined = planned(ID, model(policy), X, Y, symptom="non-finite-values")

    assert isinstance(declined, Declined)
    assert "float16" in declined.reason
