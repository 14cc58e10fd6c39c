"""A GAN as in Keras's guide: its own compile() takes the two optimizers that make its steps."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import layers

from tests.support.by_hand import normal

X = normal(128, 8)


class Adversarial(keras.Model):
    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.draws = keras.random.SeedGenerator(1)

    def compile(self, d_optimizer, g_optimizer):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

    def train_step(self, data):
        real = data[0] if isinstance(data, tuple) else data
        count = tf.shape(real)[0]
        lots = keras.random.normal((count, 4), seed=self.draws)
        is_fake = tf.concat([tf.ones((count, 1)), tf.zeros((count, 1))], 0)
        judge = keras.losses.BinaryCrossentropy(from_logits=True)
        with tf.GradientTape() as tape:
            shown = tf.concat([self.generator(lots), real], 0)
            d_loss = judge(is_fake, self.discriminator(shown))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, weights), weights, strict=True))
        with tf.GradientTape() as tape:
            shown = self.discriminator(self.generator(lots))
            g_loss = judge(tf.zeros((count, 1)), shown)
        weights = self.generator.trainable_weights
        self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights, strict=True))
        return {"d_loss": d_loss, "g_loss": g_loss}


def build_gan(make=keras.optimizers.Adam, rates=(1e-3, 1e-3), kind=Adversarial) -> Adversarial:
    keras.utils.set_random_seed(0)
    discriminator = [keras.Input((8,)), layers.Dense(16, "leaky_relu"), layers.Dense(1)]
    generator = [keras.Input((4,)), layers.Dense(16, "relu"), layers.Dense(8)]
    model = kind(keras.Sequential(discriminator, name="d"), keras.Sequential(generator, name="g"))
    model.compile(make(rates[0]), make(rates[1]))
    return model
