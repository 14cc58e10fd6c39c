"""Run by test_distributed.py: the same fit on one device and on two; prints where they differ."""

import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.records.codec import to_plain

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
REL = 1e-4


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    body = [layers.LSTM(4, name="lstm"), layers.Dense(8, "relu", name="hidden")]
    parts = [keras.Input((6, 3)), *body, layers.Dense(2, name="out")]
    made = keras.Sequential(parts, name="model")
    made.compile(keras.optimizers.SGD(0.1), "mse")
    return made


def watched(strategy: tf.distribute.Strategy) -> dict:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 6, 3)).astype("float32")
    y = rng.standard_normal((64, 2)).astype("float32")
    monitor = gradscope.Monitor(2)
    with strategy.scope():
        made = model()
    made.fit(x, y, batch_size=16, shuffle=False, verbose=0, callbacks=[monitor])
    history = to_plain(monitor.report().history)
    del history["constant_loss"], history["batch_constant"]  # of labels: each device has some
    for snapshot in history["snapshots"]:
        for layer in snapshot["layers"]:
            without_samples(layer)
    return history


def without_samples(value: object) -> None:
    """Leave out what is counted on an even sample of entries: two devices take other ones."""
    if isinstance(value, dict):
        for key in ("histogram", "zero_fraction", "saturated_fraction"):
            value.pop(key, None)
        for part in value.values():
            without_samples(part)
    elif isinstance(value, list):
        for part in value:
            without_samples(part)


def differences(one, two, where=""):
    if isinstance(one, dict):
        for key in one:
            yield from differences(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list):
        if len(one) != len(two):
            yield f"{where}: {len(one)} and {len(two)} parts"
        for n, pair in enumerate(zip(one, two, strict=False)):
            yield from differences(*pair, f"{where}[{n}]")
    elif isinstance(one, float) and isinstance(two, float):
        # A spread or mean far below the magnitudes is a difference that float32 rounds.
        if abs(one - two) > REL * max(abs(one), abs(two)) + 1e-6:
            yield f"{where}: {one} and {two}"
    elif one != two:
        yield f"{where}: {one!r} and {two!r}"


one = watched(tf.distribute.get_strategy())
two = watched(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
found = list(differences(one, two))
print(len(one["snapshots"]), len(two["snapshots"]), *found[:20], sep="\n")
sys.exit(bool(found) or len(one["snapshots"]) != 2)
