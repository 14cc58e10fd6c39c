"""The yardstick: a plain network that is known to train, trained beside a model on its data.

Two hidden ReLU layers started by He's rule, standardised inputs and targets, a head and a loss that
fit the labels, Adam at 1e-3. Images pass two small convolutions first, token ids an embedding,
sequences a convolution and a GRU. It says what the data allow in a given number of steps, so it has
to be cheap rather than good: large inputs are pooled, long sequences strided.

    yardstick = build_yardstick(x, y, hints=[OutputHint(loss="mse", shape=(1,))])
    if isinstance(yardstick, Yardstick):
        run = train_yardstick(yardstick, x, y, steps=200, batch_size=32)
        own = score_yardstick(yardstick, x_held_out, y_held_out)
        other = score_predictions(yardstick.targets, y_held_out, model.predict(x_held_out))

Both scores are on one scale: 0 is the best prediction that ignores the inputs, 1 is perfect.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.rehearsal.arrays import Array, flatten
from gradscope.rehearsal.inputs import InputPlan, Reading, choose_reading, plan_input, shape_input
from gradscope.rehearsal.labels import NoYardstick, OutputHint, Target, code_labels, read_target
from gradscope.rehearsal.network import build_network
from gradscope.trials import splits
from gradscope.trials.splits import Examples

MAX_BATCH_SIZE = 256
MAX_PREPARED = 8192  # samples from which statistics are taken
_PREDICTED_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Yardstick:
    """A compiled network, and the ways from a program's arrays to its own and back.

    Attributes:
        model: takes `prepare_inputs`, learns `prepare_targets`, under standard losses.
        kind: what it is, for a reader.
    """

    model: keras.Model
    kind: str
    inputs: tuple[InputPlan, ...]
    targets: tuple[Target, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """What the training of a yardstick came to."""

    steps: int
    losses: tuple[float, ...]
    seconds: float


def build_yardstick(
    x: Any,
    y: Any,
    *,
    hints: Sequence[OutputHint] = (),
    tokens: Sequence[bool | None] = (),
    seed: int = 0,
) -> Yardstick | NoYardstick:
    """Build the plain network that fits the data; nothing is trained yet.

    No global state is touched: neither random seeds nor Keras's name counters or policies.

    Args:
        x: the training inputs: an array, or a list or dict of arrays.
        y: the training labels, likewise.
        hints: what the model says about its outputs, in the order of the flattened labels or by
            name; they settle only what the labels leave open.
        tokens: for each flattened input whether it holds ids for an embedding; None where not
            known.
        seed: of the network's start.

    Returns:
        The yardstick, or why there is none.
    """
    try:
        found = flatten(x), flatten(y)
    except (TypeError, ValueError) as error:
        return NoYardstick(f"the data cannot be read as arrays ({error})")
    inputs, labels = found
    reason = _find_obstacle(inputs, labels)
    if reason:
        return NoYardstick(reason)
    rows = np.flatnonzero(splits.find_finite(Examples(x, y)))
    if len(rows) < 4:
        return NoYardstick("fewer than four samples are finite")
    if len(rows) > MAX_PREPARED:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_PREPARED).astype(int)]
    arrays = [array[rows] for _, array in inputs]
    given = [*tokens, *[None] * len(arrays)][: len(arrays)]
    readings = [choose_reading(a, hint) for a, hint in zip(arrays, given, strict=True)]
    targets = []
    for index, (key, array) in enumerate(labels):
        hint = _find_hint(hints, key, index, len(labels))
        target = read_target(array[rows], hint, arrays, readings)
        if isinstance(target, NoYardstick):
            return target
        targets.append(target)
    mapped = {t.grid.source: t.grid for t in targets if t.grid is not None}
    plans = tuple(
        plan_input(array, reading, mapped.get(index))
        for index, (array, reading) in enumerate(zip(arrays, readings, strict=True))
    )
    model = build_network(plans, tuple(targets), seed)
    kinds = sorted({_NAMES[plan.reading] for plan in plans})
    return Yardstick(model, " and ".join(kinds), plans, tuple(targets), seed)


_NAMES: dict[Reading, str] = {
    "vector": "dense network",
    "tokens": "embedding and dense network",
    "sequence": "convolution, GRU and dense network",
    "image": "convolutional network",
}


def _find_obstacle(
    inputs: list[tuple[str | None, Array]], labels: list[tuple[str | None, Array]]
) -> str | None:
    if not labels:
        return "there are no labels"
    if not inputs:
        return "there are no inputs"
    for what, found in (("the inputs", inputs), ("the labels", labels)):
        for _, array in found:
            if array.dtype.kind not in "biuf":
                return f"{what} are of type {array.dtype}, not numbers of one shape"
            if not array.ndim or not array.size:
                return f"{what} are empty"
    lengths = {len(array) for _, array in inputs + labels}
    return None if len(lengths) == 1 else "inputs and labels differ in their number of samples"


def _find_hint(hints: Sequence[OutputHint], key: str | None, index: int, count: int) -> OutputHint:
    for hint in hints:
        if key is not None and hint.name == key:
            return hint
    return hints[index] if len(hints) == count else OutputHint(name=key)


def prepare_inputs(yardstick: Yardstick, x: Any) -> list[Array]:
    """Inputs as the yardstick's network takes them: float32, or int32 for token ids."""
    prepared = []
    for plan, (_, array) in zip(yardstick.inputs, flatten(x), strict=True):
        shaped = shape_input(plan, array)
        if plan.reading == "tokens":
            prepared.append(shaped.astype("int32"))
        else:
            scaled = (shaped - plan.mean) / plan.scale
            prepared.append(np.clip(np.nan_to_num(scaled), -1e3, 1e3).astype("float32"))
    return prepared


def prepare_targets(yardstick: Yardstick, y: Any) -> list[Array]:
    """Labels as the yardstick's losses take them.

    Raises:
        ValueError: the labels have another shape than those the yardstick was built for.
    """
    return [
        _prepare_target(target, array)
        for target, (_, array) in zip(yardstick.targets, flatten(y), strict=True)
    ]


def _prepare_target(target: Target, y: Array) -> Array:
    coded = code_labels(target, y)
    if coded is None:
        expected, received = target.shape, y.shape[1:]
        raise ValueError(f"Expected labels of shape {expected}. Received: {received}.")
    if target.kind == "numbers":
        coded = (coded - target.mean) / target.scale
    if target.kind in ("one-hot", "indices"):
        coded = np.minimum(coded, len(target.values) - 1)
    if target.positions is not None:
        coded = coded[:, target.positions]
    if target.grid is not None:
        every = tuple(slice(None, None, target.grid.stride) for _ in target.grid.shape)
        coded = coded.reshape(len(y), *target.grid.shape, -1)[(slice(None), *every)]
    elif target.num_positions == 1:
        coded = coded[:, 0]
    return coded.astype("float32")


def train_yardstick(
    yardstick: Yardstick,
    x: Any,
    y: Any,
    *,
    steps: int,
    batch_size: int,
    seconds: float = math.inf,
) -> TrainedRun:
    """Train the yardstick on the training part, in an order that its seed alone decides.

    Args:
        batch_size: that of the model; at most 256 are used, so that it stays cheap.
        seconds: after which no further block of steps is begun.
    """
    began = time.perf_counter()
    usable = np.flatnonzero(splits.find_finite(Examples(x, y)))
    size = min(batch_size, MAX_BATCH_SIZE)
    order = usable[splits.draw_order(len(usable), steps, size, yardstick.seed)]
    # Only what the order asks for is prepared: of a large data set that is a small part.
    drawn, places = np.unique(order, return_inverse=True)
    places = places.reshape(order.shape)
    take = lambda data: [array[drawn] for _, array in flatten(data)]  # noqa: E731
    xs = [tf.constant(array) for array in prepare_inputs(yardstick, take(x))]
    ys = [tf.constant(array) for array in prepare_targets(yardstick, take(y))]
    advance = _trace(yardstick.model)
    losses: list[float] = []
    for block in np.array_split(places, max(1, steps // 50)):
        losses += advance(xs, ys, tf.constant(block)).numpy().tolist()
        if time.perf_counter() - began > seconds:
            break
    return TrainedRun(len(losses), tuple(losses), time.perf_counter() - began)


def _trace(model: keras.Model) -> Callable[..., tf.Tensor]:
    """One traced loop for all steps; `fit` would cost more than the training itself."""
    optimizer, functions = model.optimizer, model.loss
    optimizer.build(model.trainable_variables)
    variables = model.trainable_variables

    def step(xs: list[tf.Tensor], ys: list[tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = keras.tree.flatten(model(xs, training=True))
            loss = tf.add_n([f(y, p) for f, y, p in zip(functions, ys, outputs, strict=True)])
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    @tf.function(autograph=False, reduce_retracing=True)
    def advance(xs: list[tf.Tensor], ys: list[tf.Tensor], rows: tf.Tensor) -> tf.Tensor:
        count = tf.shape(rows)[0]
        losses = tf.TensorArray(tf.float32, count, element_shape=())

        def body(i: tf.Tensor, losses: tf.TensorArray) -> Any:
            batch = [[tf.gather(t, rows[i]) for t in part] for part in (xs, ys)]
            return i + 1, losses.write(i, step(*batch))

        _, losses = tf.while_loop(lambda i, _: i < count, body, (0, losses), parallel_iterations=1)
        return losses.stack()

    return advance


def predict_with_yardstick(yardstick: Yardstick, x: Any) -> list[Array]:
    """Predictions for each output, in codes or units of the labels: (samples, positions, channels).

    Numbers are on the scale of the labels, classes are class numbers, labels are 0 or 1.
    """
    xs = prepare_inputs(yardstick, x)
    parts = []
    for start in range(0, len(xs[0]), _PREDICTED_AT_ONCE):
        batch = [tf.constant(array[start : start + _PREDICTED_AT_ONCE]) for array in xs]
        found = keras.tree.flatten(yardstick.model(batch, training=False))
        parts.append([np.asarray(tensor) for tensor in found])
    outputs = [np.concatenate(one) for one in zip(*parts, strict=True)]
    return [_decode(t, output) for t, output in zip(yardstick.targets, outputs, strict=True)]


def _decode(target: Target, output: Array) -> Array:
    output = output.astype("float64")
    if target.kind in ("one-hot", "indices"):
        coded = output.argmax(-1)[..., None].astype("float64")
    elif target.kind == "numbers":
        coded = output * target.scale + target.mean
    else:
        coded = (output > 0).astype("float64")
    if target.grid is not None:
        for axis, side in enumerate(target.grid.shape, 1):
            coded = coded.repeat(target.grid.stride, axis).take(np.arange(side), axis)
    return coded.reshape(len(output), -1, target.num_channels)
