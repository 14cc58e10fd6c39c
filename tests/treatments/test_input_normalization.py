"""input-normalization: which inputs get a layer, what it holds, and what is left alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential
from tests.support.treated import operated, outputs, planned, profile_of, treated

ID = "input-normalization"
SYMPTOM = "unscaled-inputs"
SCALES = np.array([1, 10, 100, 1e3, 1e4, 0.1], "float32")
X = normal(256, 6) * SCALES + 5 * SCALES
Y = normal(256, 1, seed=1)


def mlp(**kwargs):
    keras.utils.set_random_seed(0)
    return sequential(layers.Dense(16, "relu"), layers.Dense(1), shape=(6,), **kwargs)


def arriving(model, name, x):
    """What arrives at a layer."""
    return keras.Model(model.inputs, model.get_layer(name).input)(x).numpy()


@pytest.mark.slow
def test_every_feature_gets_mean_zero_and_standard_deviation_one():
    patient = mlp()

    surgery = treated(ID, patient, X, Y, symptom=SYMPTOM)

    seen = arriving(surgery.model, patient.layers[0].name, X)
    np.testing.assert_allclose(seen, (X - X.mean(0)) / X.std(0), atol=1e-3)
    assert isinstance(surgery.model.layers[0], layers.Normalization)
    assert surgery.reset == ()


@pytest.mark.slow
def test_weights_are_kept():
    patient = mlp()

    copy = treated(ID, patient, X, Y, symptom=SYMPTOM).model

    for before, after in zip(patient.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(before.numpy(), after.numpy())


@pytest.mark.slow
def test_the_finding_is_gone_and_a_second_time_is_declined():
    copy = treated(ID, mlp(), X, Y, symptom=SYMPTOM).model

    _, findings = profile_of(copy, X, Y)
    assert SYMPTOM not in {f.symptom for f in findings}
    assert "Normalization" in planned(ID, copy, X, Y, symptom=SYMPTOM).reason


@pytest.mark.slow
def test_a_constant_feature_stays_moderate_where_it_changes():
    x = X.copy()
    x[:, 2] = 0.0

    copy = treated(ID, mlp(), x, Y, symptom=SYMPTOM).model

    other = x.copy()
    other[:, 2] = 300.0
    seen = arriving(copy, copy.layers[1].name, other)
    assert np.abs(seen).max() < 100
    assert np.abs(arriving(copy, copy.layers[1].name, x)[:, 2]).max() == 0


@pytest.mark.slow
def test_features_that_are_mostly_zero_share_one_scale():
    """One pixel that is on in a single sample is not blown up to 16 standard deviations."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random((256, 64)) < 0.2, rng.integers(1, 256, (256, 64)), 0).astype("float32")
    x[:, 0] = 0
    x[7, 0] = 255
    keras.utils.set_random_seed(0)
    patient = sequential(layers.Dense(16, "relu"), layers.Dense(1), shape=(64,))

    copy = treated(ID, patient, x, Y, symptom=SYMPTOM).model

    seen = arriving(copy, copy.layers[1].name, x)
    np.testing.assert_allclose(seen, (x - x.mean()) / x.std(), atol=1e-4)


@pytest.mark.slow
def test_images_are_normalised_by_channel():
    keras.utils.set_random_seed(0)
    patient = sequential(
        layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(1), shape=(6, 6, 3)
    )  # fmt: skip
    x = (normal(64, 6, 6, 3) * [1, 40, 900] + 2000).astype("float32")

    copy = treated(ID, patient, x, Y[:64], symptom=SYMPTOM).model

    seen = arriving(copy, copy.layers[1].name, x)
    np.testing.assert_allclose(seen.mean((0, 1, 2)), 0, atol=1e-2)
    np.testing.assert_allclose(seen.std((0, 1, 2)), 1, atol=1e-2)


def two_inputs():
    keras.utils.set_random_seed(0)
    wide, small = keras.Input((6,), name="wide"), keras.Input((4,), name="small")
    tokens = keras.Input((3,), dtype="int32", name="tokens")
    looked_up = layers.Dense(4)(layers.Flatten()(layers.Embedding(5, 2)(tokens)))
    h = layers.Dense(8, "tanh")(layers.Concatenate()([wide, small]))
    h = layers.Concatenate()([h, looked_up])
    model = keras.Model({"wide": wide, "small": small, "tokens": tokens}, layers.Dense(1)(h))
    model.compile("adam", "mse")
    x = {"wide": X, "small": normal(256, 4), "tokens": classes(256 * 3, 5).reshape(256, 3)}
    return model, x


@pytest.mark.slow
def test_only_the_inputs_that_need_it():
    patient, x = two_inputs()

    surgery = treated(ID, patient, x, Y, symptom=SYMPTOM)

    assert surgery.added == ("wide_normalization",)


@pytest.mark.slow
def test_inputs_given_as_a_list():
    patient, x = two_inputs()
    prescription = planned(ID, patient, x, Y, symptom=SYMPTOM)
    plain = keras.Model(list(patient.input.values()), patient.output)
    plain.compile("adam", "mse")

    surgery = operated(ID, plain, prescription, list(x.values()))

    assert surgery.added == ("wide_normalization",)


@pytest.mark.slow
def test_inputs_read_from_a_data_set():
    patient = mlp()
    prescription = planned(ID, patient, X, Y, symptom=SYMPTOM)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(32)

    from_set = operated(ID, patient, prescription, data).model
    from_arrays = operated(ID, patient, prescription, X).model

    for one, other in zip(outputs(from_set, X), outputs(from_arrays, X), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_without_data_it_is_declined():
    patient = mlp()
    prescription = planned(ID, patient, X, Y, symptom=SYMPTOM)

    assert "data" in operated(ID, patient, prescription, None).reason
    assert "data" in planned(ID, patient, symptom=SYMPTOM).reason


def test_scaled_inputs_are_declined():
    declined = planned(ID, mlp(), normal(256, 6), Y, symptom="saturated-activation")

    assert "scaled already" in declined.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [layers.Rescaling(0.1), layers.BatchNormalization(), layers.Masking()],
    ids=lambda layer: type(layer).__name__,
)
def test_inputs_that_are_prepared_already_are_declined(first):
    keras.utils.set_random_seed(0)
    x = (normal(64, 5, 6) * SCALES).astype("float32")
    patient = sequential(first, layers.SimpleRNN(4), layers.Dense(1), shape=(5, 6))

    declined = planned(ID, patient, x, Y[:64], symptom="saturated-activation")

    assert isinstance(declined, Declined)


def test_a_model_of_ones_own_code_is_declined():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    patient = Own()
    patient.compile("adam", "mse")
    patient(X[:1])

    declined = operated(ID, patient, planned(ID, patient, X, Y, symptom=SYMPTOM), X)

    assert "own code" in declined.reason


class Autoencoder(keras.Model):
    """Its inputs are its targets, too, in a train_step of its own."""

    def __init__(self, width):
        super().__init__()
        self.encoder = keras.Sequential([layers.Dense(8, "relu", name="first"), layers.Dense(3)])
        self.decoder = keras.Sequential([layers.Dense(width, name="made")])

    def call(self, x):
        return self.decoder(self.encoder(x))

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(x - self.decoder(self.encoder(x))))
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def test_inside_a_model_with_a_train_step_of_its_own():
    """What the encoder sees is normalised; what the step compares with stays as it is."""
    keras.utils.set_random_seed(0)
    patient = Autoencoder(X.shape[-1])
    patient.compile("adam")
    patient(X[:1])

    copy = operated(ID, patient, planned(ID, patient, X, None, symptom=SYMPTOM), X).model
    first, *rest = copy.encoder.layers
    seen = np.asarray(first(X))

    assert type(copy) is Autoencoder
    assert isinstance(first, layers.Normalization)
    assert [layer.name for layer in rest] == [layer.name for layer in patient.encoder.layers]
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-3)
    loss = float(copy.train_step((X,))["loss"])
    made = patient.decoder(patient.encoder((X - X.mean(0)) / X.std(0)))
    assert loss == pytest.approx(float(np.mean(np.square(X - made))), rel=1e-3)


def test_a_model_without_a_call_is_declined():
    class Steps(Autoencoder):
        call = keras.Model.call

    patient = Steps(X.shape[-1])
    patient.compile("adam")
    patient.fit(X, verbose=0)

    declined = operated(ID, patient, planned(ID, patient, X, None, symptom=SYMPTOM), X)

    assert "no call" in declined.reason
