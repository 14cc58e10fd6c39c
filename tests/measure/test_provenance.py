"""Tensors are followed through code between layers, so that hidden skip connections are seen."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.eager import context, execute

import gradscope
from gradscope.records import LayerProfile
from gradscope.report.report import Report
from gradscope.signals import flow


class Block(layers.Layer):
    """x + scale(tanh(x)), the sum hidden in `call`."""

    def __init__(self, units: int, seed: int) -> None:
        super().__init__()
        self.wide = layers.Dense(units, "tanh", kernel_initializer=_start(seed))
        self.narrow = layers.Dense(units, kernel_initializer=_start(seed + 1, 1e-4))

    def call(self, x):
        return x + self.narrow(self.wide(x))


class Mixed(layers.Layer):
    """A product of two branches, one of them scaled by a table that is added to all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.table = layers.Dense(4), layers.Dense(4), layers.Dense(4)

    def call(self, x):
        table = self.table(tf.ones((1, 4)))
        return tf.reshape(self.left(x) + table, tf.shape(x)) * self.right(x)


class Parallel(layers.Layer):
    """Both branches take x, as in GPT-J."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layers.Dense(4), layers.Dense(4)

    def call(self, x):
        return x + self.first(x) + self.second(x)


def _start(seed: int, scale: float = 1.0) -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(scale, seed=seed)


def built(*parts: keras.Layer, size: int = 4) -> keras.Model:
    model = keras.Sequential([keras.Input((size,)), layers.Dense(size, name="stem"), *parts])
    model.add(layers.Dense(1, name="head"))
    model.compile("sgd", "mse")
    return model


def analysed(model: keras.Model) -> Report:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, model.input_shape[-1])).astype("float32")
    return gradscope.analyze(model, x, rng.standard_normal((16, 1)), num_batches=1)


def by_name(report: Report) -> dict[str, LayerProfile]:
    return {layer.path.split("/")[-1]: layer for layer in report.layers}


def with_layers(count: int) -> keras.Model:
    """What `built(Block, ...)` computes, of layers alone."""
    x = inputs = keras.Input((8,))
    x = layers.Dense(8, name="stem", kernel_initializer=_start(99))(x)
    for n in range(count):
        h = layers.Dense(8, "tanh", kernel_initializer=_start(2 * n))(x)
        h = layers.Dense(8, kernel_initializer=_start(2 * n + 1, 1e-4))(h)
        x = layers.Add()([x, h])
    model = keras.Model(inputs, layers.Dense(1, name="head")(x))
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_hidden_sum_is_as_deep_as_an_add_layer_would_be(count):
    report = analysed(built(*(Block(4, 2 * n) for n in range(count))))

    ends = [layer for layer in report.layers if layer.added_to]
    assert [layer.depth for layer in ends] == list(range(2, 2 + count))
    assert next(layer.depth for layer in report.layers if layer.path == "head") == count + 2


def test_the_end_of_a_branch_names_what_is_added_to_it():
    report = analysed(built(Block(4, 0), Block(4, 2)))

    ends = [layer for layer in report.layers if layer.added_to]
    assert [layer.added_to for layer in ends] == [("stem:0",), (ends[0].id,)]
    assert all("narrow" in layer.path or "dense" in layer.path for layer in ends)


def test_the_signal_is_that_of_the_same_network_with_add_layers():
    hidden = built(*(Block(8, 2 * n) for n in range(4)), size=8)
    plain = with_layers(4)
    for mine, other in zip(hidden.weights, plain.weights, strict=True):
        other.assign(mine)
    seen, expected = analysed(hidden), analysed(plain)

    stream = [row for row in expected.layers if row.class_ == "Add" or row.path in ("stem", "head")]
    sums = [row for row in seen.layers if row.added_to or row.path in ("stem", "head")]
    assert [row.depth for row in sums] == [row.depth for row in stream]
    assert [flow.signal(row) for row in sums] == pytest.approx(
        [flow.signal(row) for row in stream], rel=1e-5
    )


def test_a_branch_that_carries_next_to_nothing_is_no_illness():
    report = analysed(built(*(Block(8, 2 * n) for n in range(10)), size=8))

    assert report.findings == ()


def test_a_product_has_both_factors_as_inputs_and_a_spread_table_ends_no_branch():
    layers_ = by_name(analysed(built(Mixed())))

    (left, right, table) = (r for p, r in layers_.items() if p not in ("stem", "head"))
    assert set(layers_["head"].inputs) == {left.id, right.id, table.id}
    assert not any(layer.added_to for layer in (left, right, table))


def test_two_branches_side_by_side_are_two_sums():
    report = analysed(built(Parallel()))

    depths = {layer.path.split("/")[-1]: layer.depth for layer in report.layers}
    assert sorted(depths.values()) == [1, 2, 2, 4]


def test_a_sum_with_the_input_of_the_model_counts_from_zero():
    model = keras.Sequential([keras.Input((4,)), Block(4, 0), layers.Dense(1, name="head")])
    model.compile("sgd", "mse")
    report = analysed(model)

    assert [layer.depth for layer in report.layers] == [1, 1, 2]


def with_float32_head() -> keras.Model:
    half = [layers.Dense(4, "relu", dtype="mixed_float16") for _ in range(2)]
    model = keras.Sequential([keras.Input((4,)), *half, layers.Dense(1, dtype="float32")])
    model.compile("sgd", "mse")
    return model


def test_a_cast_between_layers_is_no_end():
    report = analysed(with_float32_head())

    assert [layer.depth for layer in report.layers] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [lambda: built(Block(4, 0), Block(4, 2), Mixed()), with_float32_head],
    ids=["own code", "casts"],
)
def test_a_compiled_step_follows_as_an_eager_one_does(make):
    model = make()
    expected = analysed(model).layers
    monitor = gradscope.Monitor(log_freq=1)
    x = np.random.default_rng(0).standard_normal((16, 4)).astype("float32")
    model.fit(x, np.zeros((16, 1)), batch_size=16, verbose=0, callbacks=[monitor])

    told = {row.id: (row.depth, row.inputs, row.added_to) for row in monitor.report().layers}
    assert told == {row.id: (row.depth, row.inputs, row.added_to) for row in expected}


class Failing(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(4)

    def call(self, x):
        h = self.inner(x) + x
        if tf.executing_eagerly() and isinstance(x, tf.Tensor):
            raise KeyboardInterrupt
        return h


@pytest.mark.parametrize("end", ["well", "interrupted"])
def test_nothing_is_followed_afterwards(end):
    if end == "well":
        analysed(built(Block(4, 0)))
    else:
        with pytest.raises(KeyboardInterrupt):
            analysed(built(Failing()))

    assert not context.context().op_callbacks
    assert execute.execute is execute.quick_execute
