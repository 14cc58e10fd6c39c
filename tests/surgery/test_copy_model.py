"""`copy_model`: an independent copy of models of every kind."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gradscope.inputs.models import deep_recursion
from gradscope.records import Declined
from gradscope.surgery.graph import Surgery, copy_model, rebuild
from tests.support.by_hand import normal
from tests.support.healthy import HEALTHY
from tests.support.models import ZOO, mixed_precision
from tests.support.snapshot import Snapshot

pytestmark = pytest.mark.usefixtures("seeded")


def recurrent_states():
    x = keras.Input((5, 3))
    sequence, h, c = layers.LSTM(4, return_sequences=True, return_state=True)(x)
    decoded = layers.LSTM(4)(sequence, initial_state=[h, c])
    return keras.Model(x, [layers.Dense(2)(decoded), h]), normal(4, 5, 3)


def input_as_output():
    x = keras.Input((3,))
    return keras.Model(x, [x, layers.Dense(2)(x)]), normal(4, 3)


def lambdas():
    """Functions that use what surrounds them."""
    factor = 2.5
    each = layers.TimeDistributed(layers.Lambda(lambda t: tf.sin(t) * factor))
    dense = layers.Dense(2, activation=lambda z: tf.tanh(z))
    return keras.Sequential([keras.Input((4, 3)), each, dense]), normal(4, 4, 3)


def functions_of_the_user():
    def doubled_relu(z):
        return 2 * tf.nn.relu(z)

    def distance(y, predicted):
        return tf.reduce_mean(tf.abs(y - predicted))

    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation=doubled_relu)])
    model.compile("adam", distance, metrics=["mae", keras.metrics.MeanSquaredError()])
    return model, normal(4, 3)


def vocabulary():
    vectorize = layers.TextVectorization(output_sequence_length=4)
    vectorize.adapt(["a b c", "b c d"])
    x = keras.Input((), dtype="string")
    h = layers.GlobalAveragePooling1D()(layers.Embedding(10, 3)(vectorize(x)))
    return keras.Model(x, layers.Dense(2)(h)), tf.constant(["a b", "d q"])


def adapted_normalization():
    adapted = layers.Normalization()
    adapted.adapt(4 * normal(100, 3) + 1)
    return keras.Sequential([keras.Input((3,)), adapted, layers.Dense(2)]), normal(4, 3)


def quantized():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(2)])
    model.layers[0].quantize("int8")
    return model, normal(4, 8)


def low_rank():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(2)])
    model.layers[0].enable_lora(2)
    model.compile("adam", "mse")
    model.fit(normal(8, 8), normal(8, 2), verbose=0)
    return model, normal(4, 8)


def two_levels():
    shared = layers.Dense(3)
    inner = keras.Sequential([keras.Input((3,)), shared, layers.Dense(3)])
    x = keras.Input((3,))
    return keras.Model(x, inner(shared(x))), normal(4, 3)


def tied_weights():
    embedding = layers.Embedding(7, 3)
    x = keras.Input((2,), dtype="int32")
    h = layers.Dense(7)(embedding(x))
    return keras.Model(x, keras.ops.matmul(h, embedding.embeddings)), np.ones((2, 2), "int32")


class Unregistered(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inside = layers.Dense(units)

    def call(self, x):
        return self.inside(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def custom_layers():
    x = keras.Input((3,))
    return keras.Model(x, Unregistered(2)(Unregistered(4, trainable=False)(x))), normal(4, 3)


def masked():
    x = keras.Input((5, 3))
    h = layers.GRU(3, return_sequences=True)(layers.Masking()(x))
    data = normal(4, 5, 3)
    data[:2, 3:] = 0
    return keras.Model(x, layers.GlobalAveragePooling1D()(h)), data


def built_by_training():
    model = keras.Sequential([layers.Dense(3), layers.Dense(2)])
    model.compile("rmsprop", "mse")
    model.fit(normal(4, 3), normal(4, 2), verbose=0)
    return model, normal(4, 3)


def dictionaries():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    outputs = {"z": layers.Dense(2)(b), "y": [layers.Dense(1)(a)]}
    return keras.Model({"b": b, "a": a}, outputs), {"b": normal(4, 3), "a": normal(4, 2)}


def partly_frozen():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    inner.trainable = False
    inner.layers[0].trainable = True
    last = layers.Dense(2)
    x = keras.Input((3,))
    model = keras.Model(x, last(inner(x)))
    last.bias.trainable = False
    return model, normal(4, 3)


def optimizer_with_a_past():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    decay = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model.compile(keras.optimizers.SGD(decay, momentum=0.9, clipnorm=1.0, use_ema=True), "mse")
    model.fit(normal(8, 3), normal(8, 2), batch_size=2, verbose=0)
    return model, normal(4, 3)


def loss_scaling():
    case = mixed_precision()
    case.model.fit(case.batches[0].x, case.batches[0].y, verbose=0)
    return case.model, case.batches[0].x


OTHERS = (
    recurrent_states, input_as_output, lambdas, functions_of_the_user, vocabulary,
    adapted_normalization, quantized, low_rank, two_levels, tied_weights, custom_layers, masked,
    built_by_training, dictionaries, partly_frozen, optimizer_with_a_past, loss_scaling,
)  # fmt: skip


def from_zoo(name):
    case = ZOO[name]()
    return case.model, case.batches[0].x


def from_healthy(name):
    model, x, _ = HEALTHY[name]()
    return model, x[:4]


KINDS = {
    **{name: lambda name=name: from_zoo(name) for name in ZOO},
    **{
        name: lambda name=name: from_healthy(name)
        for name in ("rezero", "frozen backbone", "transformer", "plain cnn")
    },
    **{build.__name__: build for build in OTHERS},
}
every = pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)


def outputs(model, x):
    return [np.asarray(tensor) for tensor in keras.tree.flatten(model(x, training=False))]


def values(model):
    return [v.numpy() for v in (*model.variables, *optimizer_of(model))]


def optimizer_of(model):
    optimizer = getattr(model, "optimizer", None)
    return [] if optimizer is None else optimizer.variables


def same(left, right):
    return len(left) == len(right) and all(map(np.array_equal, left, right))


@every
def test_same_outputs_names_weights_and_states(build):
    model, x = build()

    copy = copy_model(model)

    assert same(outputs(copy, x), outputs(model, x))
    assert type(copy) is type(model)
    assert [v.path for v in copy.variables] == [v.path for v in model.variables]
    assert [v.path for v in copy.trainable_variables] == [v.path for v in model.trainable_variables]
    assert same(values(copy), values(model))


@every
def test_nothing_is_shared(build):
    model, _ = build()

    copy = copy_model(model)

    layers_of = [{id(layer) for layer in m._flatten_layers()} for m in (model, copy)]
    held = [{id(v) for v in (*m.variables, *optimizer_of(m))} for m in (model, copy)]
    assert layers_of[0].isdisjoint(layers_of[1])
    assert held[0].isdisjoint(held[1])


@every
def test_the_patient_and_the_generators_are_left_as_they_were(build):
    model, _ = build()
    calls = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    before = Snapshot(model)

    copy_model(model)

    assert before.differences(Snapshot(model)) == []
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == calls


@every
def test_rebuilt_with_nothing_replaced_is_a_copy(build):
    model, x = build()
    before = Snapshot(model)

    result = rebuild(model)

    assert before.differences(Snapshot(model)) == []
    if isinstance(result, Declined):
        assert "own code" in result.reason
        assert type(model).__name__ == "Subclassed"
    else:
        assert same(outputs(result.model, x), outputs(model, x))
        assert (result.reset, result.added) == ((), ())


@pytest.mark.parametrize("name", ["mlp", "residual_cnn", "lstm", "shared_layer", "subclassed"])
def test_training_one_leaves_the_other(name):
    case = ZOO[name]()
    copy = copy_model(case.model)
    before = values(case.model)

    copy.fit(case.batches[0].x, case.batches[0].y, verbose=0)

    assert same(values(case.model), before)
    assert not same([v.numpy() for v in copy.weights], [v.numpy() for v in case.model.weights])


@pytest.mark.slow
def test_the_copy_trains_as_the_patient_would():
    model, x = optimizer_with_a_past()
    copy = copy_model(model)

    for each in (model, copy):
        each.fit(x, normal(4, 2, seed=3), verbose=0, shuffle=False)

    assert same(values(copy), values(model))


def test_a_copy_of_own_code_is_built_and_can_be_copied():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    wanted = model(normal(4, 3))
    again = copy_model(copy_model(model))

    assert again.built
    np.testing.assert_array_equal(again(normal(4, 3)), wanted)


class Amplified(keras.Model):
    gain = 1.0

    def __init__(self, units=2, gain=gain, shift=None):
        super().__init__()
        self.gain, self.shift = gain, shift
        self.dense = layers.Dense(units)

    def call(self, x):
        return self.dense(x) * self.gain + (self.shift or 0.0)


@pytest.mark.parametrize("given", [{"gain": 3.0}, {"shift": 0.5}, {"units": 3}, {}])
def test_a_copy_of_own_code_is_made_with_what_the_original_was_made_with(given):
    model, x = Amplified(**given), normal(4, 3)
    before = model(x)

    copy = copy_model(model)

    np.testing.assert_array_equal(copy(x), before)


def test_a_number_that_was_changed_later_is_copied():
    model, x = Amplified(), normal(4, 3)
    model(x)
    model.gain = 2.0

    np.testing.assert_array_equal(copy_model(model)(x), model(x))


def test_metrics_of_the_copy_are_its_own():
    model, x = functions_of_the_user()
    copy = copy_model(model)

    copy.evaluate(x, normal(4, 4), verbose=0)

    assert all(v.numpy().sum() == 0 for v in model.metrics_variables)


@pytest.mark.slow
def test_a_thousand_layers():
    x = h = keras.Input((2,))
    for _ in range(1000):
        h = keras.layers.Dense(2)(h)
    with deep_recursion():
        model = keras.Model(x, h)
    limit = sys.getrecursionlimit()

    copy = copy_model(model)

    assert len(copy.layers) == 1001
    assert same([v.numpy() for v in copy.weights], [v.numpy() for v in model.weights])
    assert sys.getrecursionlimit() == limit


class Opaque(layers.Layer):
    def __init__(self, thing):
        super().__init__()
        self.thing = thing

    def call(self, x):
        return x


class Trouble(Exception):
    """Its attributes alone do not make one."""


def test_a_layer_without_a_config_that_holds_what_cannot_be_copied_is_declined_by_name():
    model = keras.Sequential([keras.Input((3,)), Opaque(Trouble()), layers.Dense(1)])

    declined = copy_model(model)

    assert isinstance(declined, Declined)
    assert declined.what == "opaque"
    assert "Opaque cannot be made again from its config" in declined.reason


class OwnCompile(keras.Model):
    def compile(self, optimizer):
        super().compile(optimizer, "mse")
        self.also = keras.optimizers.Adam(0.5)


def test_what_the_own_compile_of_a_graph_set_is_missing():
    x = keras.Input((3,))
    model = OwnCompile(x, layers.Dense(1)(x))
    model.compile("sgd")

    assert "its own compile() set also" in copy_model(model).reason


class TwoOptimizers(keras.Model):
    """Keras's guide to GANs in small: optimizers and loss come through its own compile()."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside
        self.outside = layers.Dense(1, name="outside")

    def compile(self, inner_optimizer, outer_optimizer, error):
        super().compile()
        self.inner_optimizer, self.outer_optimizer = inner_optimizer, outer_optimizer
        self.error = error

    def call(self, x):
        return self.outside(self.inside(x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = self.error(y, self(x))
        for layer, optimizer in (
            (self.inside, self.inner_optimizer),
            (self.outside, self.outer_optimizer),
        ):
            weights = layer.trainable_weights
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


@pytest.mark.parametrize("num_epochs", [0, 2])
def test_the_copy_of_a_model_with_several_optimizers_trains_as_the_model_does(seeded, num_epochs):
    inside = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh", name="inner")])
    model = TwoOptimizers(inside)
    model.compile(
        keras.optimizers.Adam(0.1),
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.MeanSquaredError(),
    )
    x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
    y = x[:, :1] ** 2
    model(x)
    if num_epochs:
        model.fit(x, y, epochs=num_epochs, verbose=0)

    copy = copy_model(model)

    theirs = {id(o) for o in (model.inner_optimizer, model.outer_optimizer, model.optimizer)}
    assert not theirs & {id(o) for o in (copy.inner_optimizer, copy.outer_optimizer)}
    for each in (model, copy):
        each.fit(x, y, epochs=3, shuffle=False, verbose=0)
    for mine, theirs in zip(copy.weights, model.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_random_graphs(seed):
    """Branches, shared layers, nested models, operations and several outputs, at random."""
    draw = np.random.default_rng(seed)
    x = keras.Input((4,))
    shared = layers.Dense(4, "tanh")
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, "relu")])
    tensors = [x]
    for _ in range(12):
        a, b = (tensors[i] for i in draw.integers(len(tensors), size=2))
        made = (
            lambda a, b: layers.Dense(4)(a),
            lambda a, b: shared(a),
            lambda a, b: inner(b),
            lambda a, b: layers.Add()([a, b]),
            lambda a, b: a * b + 1.0,
            lambda a, b: layers.BatchNormalization()(b),
        )[draw.integers(6)](a, b)
        tensors.append(made)
    model = keras.Model(x, [tensors[-1], tensors[-3]])

    result = rebuild(model)

    assert isinstance(result, Surgery)
    assert same(outputs(copy_model(model), normal(3, 4)), outputs(model, normal(3, 4)))
    assert same(outputs(result.model, normal(3, 4)), outputs(model, normal(3, 4)))


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_loss_is_scaled_where_the_patients_is(scaled, built):
    layer = layers.Dense(2, dtype="mixed_float16")
    model = keras.Sequential([keras.Input((3,)), layer], name="half")
    model.dtype_policy = "mixed_float16"
    model.compile("sgd", "mse", auto_scale_loss=scaled)
    if built:
        model.optimizer.build(model.trainable_variables)
    copy = copy_model(model)

    assert type(copy.optimizer) is type(model.optimizer)
    assert isinstance(copy.optimizer, keras.optimizers.LossScaleOptimizer) == scaled
