"""full-precision: float32 where float16 makes NaN or loses gradients."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers, ops

from gradscope.backend.keras_private import flat_layers
from gradscope.records import Declined, NonFiniteOrigin
from gradscope.treatments import registry
from tests.support.by_hand import normal
from tests.support.treated import asking, operated, outputs, planned, profile_of, treated

ID = "full-precision"
X, Y = normal(64, 8).astype("float32"), normal(64, 1, seed=1)
HALF = "mixed_float16"


@keras.saving.register_keras_serializable("tests.full_precision")
class Masking(layers.Layer):
    """Adds -1e9 times 0, which is NaN in float16; holds a layer of the precision it is given."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Dense(4, dtype=self.dtype_policy, name="inner")

    def call(self, x):
        h = self.inner(x)
        return h + ops.zeros_like(h) * ops.cast(-1e9, h.dtype)


@keras.saving.register_keras_serializable("tests.full_precision")
class OwnCode(keras.Model):
    """With a precision that its code sets."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.masking = layers.Dense(8, dtype=HALF), Masking(dtype=HALF)
        self.last = layers.Dense(1, dtype="float32")

    def call(self, x):
        return self.last(self.masking(self.first(x)))


def functional(policy=HALF) -> keras.Model:
    x = keras.Input((8,))
    h = layers.Dense(8, "tanh", dtype=policy, name="first")(x)
    h = Masking(dtype=policy, name="masking")(h + 0.5 * h)
    return keras.Model(x, layers.Dense(1, dtype="float32", name="last")(h))


def sequential() -> keras.Model:
    tower = keras.Sequential([layers.Dense(8, dtype=HALF), Masking(dtype=HALF)])
    return keras.Sequential([keras.Input((8,)), tower, layers.Dense(1, dtype="float32")])


def own_code() -> keras.Model:
    model = OwnCode()
    model(X[:1])
    return model


def compiled(make, optimizer="adam", **options) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(optimizer, "mse", **options)
    return model


def precisions(model: keras.Model) -> set[str]:
    return {layer.compute_dtype for layer in flat_layers(model)} | {
        variable.dtype for variable in model.trainable_variables
    }


@pytest.mark.parametrize("make", [functional, sequential, own_code])
def test_what_float16_cannot_hold_is_computed(make):
    model = compiled(make)
    prescription = planned(ID, model, X, Y, symptom="non-finite-values")
    surgery = operated(ID, model, prescription, X)
    copy = surgery.model

    assert not np.isfinite(outputs(model, X)[0]).all()
    assert np.isfinite(outputs(copy, X)[0]).all()
    assert precisions(copy) == {"float32"}
    assert surgery.reset == ()
    for old, new in zip(model.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_it_trains_and_survives_a_file():
    treated(ID, compiled(functional), X, Y, symptom="non-finite-values")


def test_weights_of_float16_become_float32():
    model = compiled(lambda: functional("float16"))
    copy = treated(ID, model, X, Y, symptom="non-finite-values").model

    assert "float16" in precisions(model)
    assert precisions(copy) == {"float32"}


def test_a_loss_scale_that_serves_nothing_any_more_goes():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-2, momentum=0.5))
    model = compiled(functional, scaled)
    copy = treated(ID, model, X, Y, symptom="non-finite-values").model

    assert type(copy.optimizer) is keras.optimizers.SGD
    assert float(copy.optimizer.learning_rate) == pytest.approx(1e-2)
    assert copy.optimizer.momentum == 0.5
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize("symptom", ["gradient-underflow", "underfitting"])
def test_it_answers_lost_gradients_and_a_model_behind_the_plain_network(symptom):
    profile = dataclasses.replace(profile_of(compiled(functional), X, Y)[0], non_finite=None)
    prescription = registry()[ID].plan(profile, [asking(symptom, profile)])

    assert prescription.layers == ("first", "masking/inner")
    assert prescription.safety == "unsafe"


@pytest.mark.parametrize(
    "origin",
    [
        None,
        NonFiniteOrigin("Sqrt", "root-at-zero", dtype="float16"),
        NonFiniteOrigin("Mul", "zero-times-infinity", dtype="float32"),
    ],
)
def test_what_float32_does_not_mend_is_declined(origin):
    profile = dataclasses.replace(profile_of(compiled(functional), X, Y)[0], non_finite=origin)
    declined = registry()[ID].plan(profile, [asking("non-finite-values", profile)])

    assert isinstance(declined, Declined)
    assert "no value is known" in declined.reason


def test_without_float16_it_is_declined():
    model = compiled(lambda: functional("mixed_bfloat16"))

    assert "float16" in planned(ID, model, X, Y, symptom="gradient-underflow").reason
