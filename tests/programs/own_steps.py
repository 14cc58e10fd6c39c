"""Models with a train_step of their own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.optimizers import Adam

from tests.clinic.data import Data
from tests.programs import metrics
from tests.programs.building import compiled
from tests.programs.program import Program

register = keras.saving.register_keras_serializable("programs")


def _take(data: Any) -> Any:
    return data[0] if isinstance(data, tuple) else data


def _make_tumours(scaled: bool = False) -> Data:
    from sklearn.datasets import load_breast_cancer

    x = load_breast_cancer().data.astype("float32")
    x = x[np.random.default_rng(0).permutation(len(x))]
    known, held = x[:450], x[450:]
    if scaled:
        mean, spread = known.mean(0), known.std(0)
        known, held = (known - mean) / spread, (held - mean) / spread
    return Data(known, None, held, None)


@register
class VariationalAutoencoder(keras.Model):
    """Its layer `log_var` is built by the first step: `call` does without it."""

    def __init__(self, width=30, latent=4, **options):
        super().__init__(**options)
        self.width, self.latent = width, latent
        self.encoder = keras.Sequential(
            [keras.Input((width,)), layers.Dense(32, "relu"), layers.Dense(16, "relu")],
            name="encoder",
        )
        self.mean = layers.Dense(latent, name="mean")
        self.log_var = layers.Dense(latent, name="log_var")
        self.decoder = keras.Sequential(
            [
                keras.Input((latent,)),
                layers.Dense(16, "relu"),
                layers.Dense(32, "relu"),
                layers.Dense(width),
            ],
            name="decoder",
        )
        self.tracker = keras.metrics.Mean(name="loss")

    def get_config(self):
        return {**super().get_config(), "width": self.width, "latent": self.latent}

    @property
    def metrics(self):
        return [self.tracker]

    def call(self, x, training=False):
        return self.decoder(self.mean(self.encoder(x)))

    def compute_bound(self, x):
        """Squared error and a tenth of the divergence from the standard normal."""
        hidden = self.encoder(x)
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        drawn = mean + tf.exp(0.5 * log_var) * tf.random.normal(tf.shape(mean))
        error = tf.reduce_mean(tf.square(x - self.decoder(drawn)), -1)
        divergence = 1 + log_var - tf.square(mean) - tf.exp(log_var)
        return tf.reduce_mean(error - 0.05 * tf.reduce_sum(divergence, -1))

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.compute_bound(_take(data))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}

    def test_step(self, data):
        self.tracker.update_state(self.compute_bound(_take(data)))
        return {"loss": self.tracker.result()}


def _autoencode() -> keras.Model:
    model = compiled(VariationalAutoencoder(), Adam(1e-3))
    model.build((None, 30))
    return model


def _make_times() -> Data:
    known = np.random.default_rng(0).uniform(0, 3, (256, 1)).astype("float32")
    held = np.linspace(0, 3, 100, dtype="float32")[:, None]
    return Data(known, None, held, np.sin(held))


@register
class Oscillator(keras.Model):
    """Solves u'' = -u with u(0) = 0 and u'(0) = 1 by the squared residuals."""

    def __init__(self, activation, **options):
        super().__init__(**options)
        self.activation = activation
        hidden = [layers.Dense(32, activation, name=f"h{i}") for i in (1, 2, 3)]
        self.net = keras.Sequential(
            [keras.Input((1,)), *hidden, layers.Dense(1, name="u")], name="net"
        )

    def get_config(self):
        return {**super().get_config(), "activation": self.activation}

    def call(self, t):
        return self.net(t)

    def train_step(self, data):
        t, start = _take(data), tf.zeros((1, 1))
        with tf.GradientTape() as tape:
            with tf.GradientTape() as outer:
                outer.watch(t)
                with tf.GradientTape() as inner:
                    inner.watch(t)
                    u = self.net(t)
                slope = inner.gradient(u, t)
            bend = outer.gradient(slope, t)
            if bend is None:
                bend = tf.zeros_like(u)
            with tf.GradientTape() as at_start:
                at_start.watch(start)
                first = self.net(start)
            speed = at_start.gradient(first, start)
            residuals = bend + u, first, speed - 1.0
            loss = tf.add_n([tf.reduce_mean(tf.square(r)) for r in residuals])
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


def _oscillate(activation: str) -> keras.Model:
    model = compiled(Oscillator(activation), Adam(3e-3))
    model.build((None, 1))
    return model


PROGRAMS = (
    Program(
        id="autoencoder-exp-overflow",
        source="AppliedDataSciencePartners/WorldModels#9, keras-team/keras#12371, "
        "vanderschaarlab/synthcity#331",
        about="a variational autoencoder on columns up to 4,000: exp(log_var) overflows",
        cure="standardised columns",
        causes=frozenset({"unscaled-inputs", "non-finite-values"}),
        culprits=("log_var",),
        operation="exp",
        sick=_autoencode,
        cured=_autoencode,
        data=_make_tumours,
        cured_data=lambda: _make_tumours(scaled=True),
        metric=metrics.mean_column_r2,
        threshold=0.4,
        epochs=40,
        batch_size=64,
    ),
    Program(
        id="equation-relu",
        source="StackOverflow 78712449, arXiv:2512.11184",
        about="a differential equation of second order by ReLUs, whose second derivative is 0",
        cure="tanh",
        causes=frozenset({"disconnected-layer", "mismatched-loss"}),
        culprits=("h1", "h2", "h3"),
        operation="relu",
        sick=lambda: _oscillate("relu"),
        cured=lambda: _oscillate("tanh"),
        data=_make_times,
        metric=metrics.r2,
        threshold=0.9,
        epochs=120,
        batch_size=64,
    ),
)
