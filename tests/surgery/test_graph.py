"""`rebuild`: layers replaced, inserted, dropped and bridged."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from gradscope.records import Declined
from gradscope.surgery.graph import Bridge, Surgery, copy_model, rebuild
from tests.support.by_hand import normal
from tests.support.models import ZOO
from tests.support.snapshot import Snapshot

pytestmark = pytest.mark.usefixtures("seeded")


def mlp():
    model = keras.Sequential(
        [
            keras.Input((5,), name="x"),
            layers.Dense(8, "sigmoid", name="a"),
            layers.Dense(8, "sigmoid", name="b"),
            layers.Dense(2, name="out"),
        ],
        name="net",
    )
    model.compile(keras.optimizers.Adam(0.02), "mse", metrics=["mae"])
    return model


def run(model, x):
    return keras.tree.map_structure(np.asarray, model(x, training=False))


def weights(model, path):
    layer = model
    for name in path.split("/"):
        layer = layer.get_layer(name)
    return layer.get_weights()


def operated(model, *args, **kwargs) -> Surgery:
    """The result; that the patient is untouched holds for every operation."""
    before = Snapshot(model)
    result = rebuild(model, *args, **kwargs)
    assert before.differences(Snapshot(model)) == []
    assert isinstance(result, Surgery), result
    return result


def test_a_fused_activation_is_split_and_the_kernel_kept():
    model, x = mlp(), normal(6, 5)

    result = operated(model, {"a": [layers.Dense(8), layers.Activation("sigmoid")]})

    np.testing.assert_allclose(run(result.model, x), run(model, x), rtol=1e-6)
    assert all(map(np.array_equal, weights(result.model, "a"), weights(model, "a")))
    assert result.kept == ("a", "b", "out")
    assert (result.reset, result.added) == ((), ("a_activation",))
    assert type(result.model) is keras.Sequential
    assert result.model.name == "net"


def test_an_added_layer_with_weights_is_fresh():
    result = operated(mlp(), {"b": [layers.Dense(8), layers.BatchNormalization()]})

    assert result.reset == result.added == ("b_batch_normalization",)
    assert "b_batch_normalization/gamma" in result.model.weights[4].path


def test_the_layer_itself_in_its_chain_stands_for_its_copy():
    model, x = mlp(), normal(6, 5)

    result = operated(model, {"b": [layers.Rescaling(3.0, name="triple"), model.get_layer("b")]})

    a, b, out = (weights(model, path) for path in ("a", "b", "out"))
    h = 1 / (1 + np.exp(-(x @ a[0] + a[1])))
    h = 1 / (1 + np.exp(-(3 * h @ b[0] + b[1])))
    np.testing.assert_allclose(run(result.model, x), h @ out[0] + out[1], rtol=1e-5)
    assert result.added == ("triple",)
    assert result.model.get_layer("b") is not model.get_layer("b")


def test_an_empty_chain_drops_the_layer():
    model, x = mlp(), normal(6, 5)

    result = operated(model, {"b": []})

    a, out = weights(model, "a"), weights(model, "out")
    h = 1 / (1 + np.exp(-(x @ a[0] + a[1])))
    np.testing.assert_allclose(run(result.model, x), h @ out[0] + out[1], rtol=1e-5)
    assert result.kept == ("a", "out")


@pytest.mark.slow
def test_fresh_layers_follow_the_global_seed():
    model = mlp()
    drawn = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        drawn.append(weights(operated(model, fresh=["b"]).model, "b")[0])

    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], weights(model, "b")[0])
    assert operated(model, fresh=["b"]).reset == ("b",)


def test_a_layer_of_other_shapes_starts_anew():
    chain = {"b": [layers.Dense(16, name="wide"), layers.Dense(8, "sigmoid")]}
    model = mlp()

    result = operated(model, chain)

    assert len(result.reset) == 2
    assert result.kept == ("a", "out")


@pytest.mark.slow
def test_the_compile_configuration_moves_and_the_optimizer_is_new():
    model = mlp()
    model.fit(normal(6, 5), normal(6, 2), verbose=0)

    copy = operated(model, {"a": [layers.Dense(8, "relu")]}).model

    assert copy.optimizer.get_config() == model.optimizer.get_config()
    assert not copy.optimizer.built
    assert set(copy.evaluate(normal(6, 5), normal(6, 2), verbose=0, return_dict=True)) == {
        "loss",
        "mae",
    }
    copy.fit(normal(6, 5), normal(6, 2), verbose=0)


def test_behind_an_input():
    model, x = mlp(), normal(6, 5)
    adapted = layers.Normalization()
    adapted.adapt(5 * normal(50, 5) + 2)

    result = operated(model, after_input={"x": [adapted]})

    np.testing.assert_allclose(run(result.model, x), run(model, np.asarray(adapted(x))), rtol=1e-6)
    assert (result.added, result.reset) == (("x_normalization",), ())


def test_behind_an_input_that_is_also_an_output():
    x = keras.Input((3,), name="x")
    model = keras.Model(x, [x, layers.Dense(2, name="out")(x)])

    result = operated(model, after_input={"x": [layers.Rescaling(2.0)]})

    data = normal(4, 3)
    bare, out = run(result.model, data)
    assert np.array_equal(bare, data)
    np.testing.assert_allclose(out, run(model, 2 * data)[1], rtol=1e-6)


def test_a_bridge_adds_its_input():
    model, x = mlp(), normal(6, 5)
    bridge = Bridge("b", "b", lambda x, y: layers.Add()([x, y]))

    result = operated(model, bridges=[bridge])

    a, b, out = (weights(model, path) for path in ("a", "b", "out"))
    h = 1 / (1 + np.exp(-(x @ a[0] + a[1])))
    h = h + 1 / (1 + np.exp(-(h @ b[0] + b[1])))
    np.testing.assert_allclose(run(result.model, x), h @ out[0] + out[1], rtol=1e-5)
    assert result.added == ("b_add",)
    assert result.model.name == "net"


def test_a_bridge_with_a_projection_and_a_scale():
    model, x = mlp(), normal(6, 5)

    def combine(x, y):
        return layers.Add()([layers.Dense(8, use_bias=False)(x), 0.0 * y])

    result = operated(model, bridges=[Bridge("a", "b", combine)])

    (projection,), out = weights(result.model, "b_dense"), weights(model, "out")
    np.testing.assert_allclose(run(result.model, x), x @ projection @ out[0] + out[1], rtol=1e-5)
    assert result.reset == ("b_dense",)
    assert result.model.get_layer("b_dense").kernel.path == "b_dense/kernel"


def test_bridges_in_a_nested_model_called_twice():
    model = ZOO["nested"]().model
    data = normal(3, 4)

    result = operated(model, bridges=[Bridge("inner/a", "inner/b", lambda x, y: x + y)])

    inner = model.get_layer("inner")
    once = data + run(inner, data)
    again = once + run(inner, once)
    out = weights(model, "out")
    np.testing.assert_allclose(run(result.model, data), again @ out[0] + out[1], rtol=1e-4)


def test_a_shared_layer_is_replaced_once():
    model = ZOO["shared_layer"]().model

    result = operated(model, {"twin": [layers.Dense(5), layers.Activation("tanh")]})

    data = [normal(3, 4), normal(3, 4, seed=2)]
    np.testing.assert_allclose(run(result.model, data), run(model, data), rtol=1e-5, atol=1e-7)
    assert len(result.model.get_layer("twin")._inbound_nodes) == 2


def test_an_operation_of_the_graph_stays():
    model = ZOO["operations_in_the_graph"]().model

    result = operated(model, {"dense": [layers.Dense(6), layers.Identity()]})

    data = normal(3, 4)
    assert np.array_equal(run(result.model, data), run(model, data))


@pytest.mark.slow
def test_masks_reach_what_takes_the_place_of_a_recurrent_layer():
    case = ZOO["gru"]()
    x = case.batches[0].x

    result = operated(case.model, {"rnn": [layers.Rescaling(1.0), case.model.get_layer("rnn")]})

    assert np.array_equal(run(result.model, x), run(case.model, x))


@pytest.mark.slow
def test_initial_states_reach_the_first_layer_that_takes_them():
    x = keras.Input((5, 3))
    sequence, h, c = layers.LSTM(4, return_sequences=True, return_state=True, name="first")(x)
    y = layers.LSTM(4, name="second")(sequence, initial_state=[h, c])
    model = keras.Model(x, y)

    result = operated(
        model, {"second": [layers.Identity(), model.get_layer("second"), layers.Rescaling(2.0)]}
    )

    data = normal(2, 5, 3)
    np.testing.assert_allclose(run(result.model, data), 2 * run(model, data), rtol=1e-6)


@pytest.mark.slow
def test_further_outputs_of_a_replaced_layer_stay():
    x = keras.Input((5, 3))
    y, h = layers.GRU(4, return_state=True, name="rnn")(x)
    model = keras.Model(x, layers.Concatenate()([y, h]))

    result = operated(model, {"rnn": [model.get_layer("rnn"), layers.Rescaling(2.0)]})

    data = normal(2, 5, 3)
    np.testing.assert_allclose(
        run(result.model, data), run(model, data) * ([2] * 4 + [1] * 4), rtol=1e-6
    )


def test_names_of_several_outputs_stay_for_the_losses():
    model = ZOO["several_outputs"]().model
    flat = keras.Model(model.inputs, [model.get_layer(n).output for n in ("value", "kind")])
    flat.compile("sgd", {"value": "mse", "kind": "mse"})

    result = operated(flat, {"kind": [layers.Dense(3), layers.Softmax()]})

    assert result.model.output_names == ["value", "kind"]
    assert "kind_dense" in result.kept


def test_a_wrapper_is_replaced_as_a_whole():
    model = ZOO["bidirectional"]().model
    wrapper = layers.Bidirectional(layers.GRU(4, return_sequences=True))

    result = operated(model, {"both": [wrapper, layers.LayerNormalization()]})

    kept = weights(result.model, "both")
    assert all(map(np.array_equal, kept, weights(model, "both")))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "residual_cnn", "attention", "lstm", "several_outputs"])
def test_a_rebuilt_model_is_saved_and_loaded(name, tmp_path):
    case = ZOO[name]()
    path = {"mlp": "dense_1", "residual_cnn": "conv_1", "several_outputs": "trunk"}.get(name, "out")
    layer = case.model.get_layer(path)
    bridge = Bridge(path, path, lambda x, y: layers.Concatenate()([y, y]))
    bridges = [] if name in ("mlp", "residual_cnn", "several_outputs") else [bridge]
    result = operated(case.model, {path: [layer, layers.BatchNormalization()]}, bridges=bridges)

    result.model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")

    x = case.batches[0].x
    for left, right in zip(
        keras.tree.flatten(run(loaded, x)), keras.tree.flatten(run(result.model, x)), strict=True
    ):
        assert np.array_equal(left, right)


def declined(*args, **kwargs) -> str:
    result = rebuild(*args, **kwargs)
    assert isinstance(result, Declined), result
    return f"{result.what}: {result.reason}"


def test_a_subclassed_model_is_declined():
    assert "its own code" in declined(ZOO["subclassed"]().model)


def test_a_layer_inside_a_layer_of_its_own_code_is_declined():
    model = ZOO["attention"]().model

    reason = declined(model, {"mha/query": [layers.Dense(8)]})

    assert reason == "mha/query: it lies inside a layer whose call is its own code"


def test_a_change_of_shape_is_declined_at_the_layer_that_no_longer_fits():
    reason = declined(mlp(), {"b": [layers.Dense(4)]})

    assert reason.startswith("out: its weights are of shapes [(8, 2), (2,)]")


def test_a_bridge_over_a_change_of_shape_is_declined():
    bridge = Bridge("a", "b", lambda x, y: layers.Add()([x, y]))

    assert declined(mlp(), bridges=[bridge]).startswith("b: cannot be bridged")


def test_a_bridge_backwards_is_declined():
    bridge = Bridge("b", "a", lambda x, y: layers.Add()([x, y]))

    assert "it must be called once, behind 'b'" in declined(mlp(), bridges=[bridge])


def test_a_bridge_over_a_shared_layer_is_declined():
    model = ZOO["shared_layer"]().model

    assert "called once" in declined(model, bridges=[Bridge("twin", "twin", lambda x, y: y)])


def test_an_argument_that_nothing_takes_is_declined():
    x = keras.Input((5, 3))
    y = layers.GRU(3, name="rnn")(x, initial_state=x[:, 0])
    model = keras.Model(x, y)

    reason = declined(model, {"rnn": [layers.GlobalAveragePooling1D()]})

    assert reason == "rnn: nothing in its place takes its argument 'initial_state'"


def test_outputs_that_are_gone_are_declined():
    x = keras.Input((5, 3))
    y, h = layers.GRU(4, return_state=True, name="rnn")(x)
    model = keras.Model(x, layers.Concatenate()([y, h]))

    assert declined(model, {"rnn": [layers.GRU(4)]}) == (
        "rnn: has 2 outputs, what takes its place 1"
    )


def test_an_unbuilt_model_is_declined():
    model = keras.Sequential([layers.Dense(2, name="a")])

    assert "call it on data first" in declined(model, {"a": [layers.Dense(2)]})


def test_an_unknown_path_names_the_known():
    with pytest.raises(
        ValueError, match=r"No layer has the path 'c'\. Expected one of: a, b, out\."
    ):
        rebuild(mlp(), {"c": []})


def test_a_layer_in_use_is_refused():
    model = mlp()

    with pytest.raises(ValueError, match="'a' is part of a graph already"):
        rebuild(model, {"b": [model.get_layer("a")]})


@keras.saving.register_keras_serializable("test_graph")
class Coder(keras.Model):
    """A model of its own code that holds graphs; `spread` is built and called in training only."""

    def __init__(self, **options):
        super().__init__(**options)
        self.encoder = keras.Sequential(
            [keras.Input((8,)), layers.Dense(6, "relu", name="first"), layers.Dense(4)],
            name="encoder",
        )
        self.spread = layers.Dense(4, name="spread")
        self.decoder = keras.Sequential([keras.Input((4,)), layers.Dense(8)], name="decoder")

    def call(self, x):
        return self.decoder(self.encoder(x))

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            code = self.encoder(x)
            made = self.decoder(code + 0.1 * self.spread(code))
            loss = tf.reduce_mean(tf.square(x - made))
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def coder() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = Coder()
    model.compile("adam")
    model.fit(normal(16, 8), verbose=0)
    return model


def test_a_graph_inside_a_model_of_its_own_code_is_rebuilt_and_the_rest_copied():
    model = coder()
    first = model.encoder.get_layer("first")
    surgery = operated(model, {"encoder/first": [layers.Rescaling(1.0), first]})
    copy = surgery.model

    assert type(copy) is Coder
    assert [type(layer).__name__ for layer in copy.encoder.layers][:2] == ["Rescaling", "Dense"]
    assert surgery.added == ("encoder/first_rescaling",)
    assert {"encoder/first", "spread"} < {*surgery.kept}
    assert np.array_equal(copy(normal(4, 8)), model(normal(4, 8)))
    before = Snapshot(model)
    copy.fit(normal(16, 8), verbose=0)
    assert before.differences(Snapshot(model)) == []


class Around(keras.Model):
    """A model of its own code around a graph with an operation in it."""

    def __init__(self, **options):
        super().__init__(**options)
        inputs = keras.Input((8,))
        inner = ops.tanh(layers.Activation("relu", name="first")(inputs))
        self.graph = keras.Model(inputs, layers.Dense(4)(inner), name="graph")

    def call(self, x):
        return self.graph(x)


@pytest.mark.parametrize("index", [1, 2], ids=["layer", "operation"])
def test_what_a_graph_inside_its_own_code_calls_is_changed(index):
    keras.utils.set_random_seed(0)
    model = Around()
    model.build((None, 8))
    place = f"graph/{model.graph.operations[index].name}"
    surgery = rebuild(model, calls={place: lambda x: ops.multiply(x, 0.0)})

    assert isinstance(surgery, Surgery), surgery
    assert not np.any(surgery.model(normal(4, 8)))
    assert np.any(model(normal(4, 8)))


def test_what_was_rebuilt_inside_its_own_code_stays_in_its_copies():
    rebuilt_once = operated(coder(), {"encoder/first": [layers.Dense(6, "tanh")]}).model
    copy = copy_model(rebuilt_once)
    assert not isinstance(copy, Declined), copy

    assert np.array_equal(copy(normal(4, 8)), rebuilt_once(normal(4, 8)))
    assert copy.encoder.layers[0].activation is keras.activations.tanh


def test_settings_that_were_changed_inside_its_own_code_stay_in_its_copies():
    model = coder()
    model.spread.use_bias = False

    assert copy_model(model).spread.use_bias is False


def test_layers_that_its_own_code_calls_are_declined():
    inside = {"encoder/first": [layers.Dense(6)]}
    reasons = [
        declined(coder(), {"spread": [layers.Dense(4)]}),
        declined(coder(), inside, fresh=["spread"]),
    ]

    assert reasons == ["spread: it lies inside a layer whose call is its own code"] * 2
