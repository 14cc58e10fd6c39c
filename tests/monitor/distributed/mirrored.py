"""Run by test_distributed.py: the same fit on one device and on several; prints where they differ.

python mirrored.py MODEL DEVICES
"""

import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.records.codec import to_plain

NAME, NUM_DEVICES = sys.argv[1], int(sys.argv[2])
(cpu,) = tf.config.list_physical_devices("CPU")
devices = [tf.config.LogicalDeviceConfiguration()] * NUM_DEVICES
tf.config.set_logical_device_configuration(cpu, devices)
REL = 1e-4


def transformer() -> keras.Model:
    # The gradient of a bias of keys is nothing but rounding.
    x = keras.Input((6, 4))
    h = layers.MultiHeadAttention(2, 2, use_bias=False, name="attention")(x, x)
    h = layers.LayerNormalization(name="norm")(layers.Add(name="sum")([x, h]))
    out = layers.Dense(2, name="out")(layers.GlobalAveragePooling1D(name="pool")(h))
    return keras.Model(x, out, name="model")


def stack(shape: tuple, *body: keras.Layer) -> keras.Model:
    parts = [keras.Input(shape), *body, layers.Dense(2, name="out")]
    return keras.Sequential(parts, name="model")


MODELS = {
    "mlp": lambda: stack((8,), layers.Dense(8, "relu", name="hidden")),
    "cnn": lambda: stack(
        (6, 6, 2),
        layers.Conv2D(4, 3, use_bias=False, name="conv"),
        # Of the batch on all devices, as one device has it. Keras itself fails where one of them
        # gets no samples.
        layers.BatchNormalization(synchronized=True, name="norm"),
        layers.ReLU(name="relu"),
        layers.GlobalAveragePooling2D(name="pool"),
    ),
    "transformer": transformer,
    "lstm": lambda: stack(
        (6, 3), layers.LSTM(4, name="lstm"), layers.Dense(8, "relu", name="hidden")
    ),
}


def trained(
    strategy: tf.distribute.Strategy, num_samples: int, monitor: gradscope.Monitor | None
) -> keras.Model:
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = MODELS[NAME]()
        model.compile(keras.optimizers.SGD(0.1), "mse")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num_samples, *model.input_shape[1:])).astype("float32")
    y = rng.standard_normal((num_samples, 2)).astype("float32")
    callbacks = [monitor] if monitor else []
    size = 8 * NUM_DEVICES
    model.fit(x, y, batch_size=size, shuffle=False, verbose=0, callbacks=callbacks)
    return model


def watched(strategy: tf.distribute.Strategy) -> dict:
    monitor = gradscope.Monitor(2)
    trained(strategy, 32 * NUM_DEVICES, monitor)
    history = to_plain(monitor.report().history)
    del history["constant_loss"], history["batch_constant"]  # of labels: each device has some
    for snapshot in history["snapshots"]:
        for layer in snapshot["layers"]:
            without_samples(layer)
    return history


def without_samples(value: object) -> None:
    """Leave out what is counted on an even sample of entries: several devices take other ones."""
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
mirrored = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(NUM_DEVICES)])
found = list(differences(one, watched(mirrored)))
if len(one["snapshots"]) != 2:
    found.append(f"{len(one['snapshots'])} snapshots")

# Batches whose last one holds too little for all devices: as without Monitor.
uneven = 16 * NUM_DEVICES + (8 * NUM_DEVICES - 3 if NAME == "cnn" else 1)
monitor = gradscope.Monitor(1)
pair = [trained(mirrored, uneven, m).get_weights() for m in (monitor, None)]
found += [
    f"weight {n} of an uneven fit: {np.abs(a - b).max()}"
    for n, (a, b) in enumerate(zip(*pair, strict=True))
    if not np.allclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True)
]
if monitor.report().history.num_steps != 3:
    found.append(f"{monitor.report().history.num_steps} steps of an uneven fit")
print(*found[:20], sep="\n")
sys.exit(bool(found))
