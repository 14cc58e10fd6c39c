"""Which layers follow which."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from gradscope.surgery.graph import chains, follows, input_consumers, output_paths
from tests.support.models import ZOO


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lstm", [("embedding", "rnn", "pool", "out")]),
        ("mlp", [("dense_0", "dense_1", "dense_2", "out")]),
        ("nested", [("out",), ("inner/a", "inner/b")]),
        ("residual_cnn", [("conv_1",), ("conv_2", "norm"), ("relu", "pool", "out")]),
        ("shared_layer", [("out",)]),
        ("subclassed", []),
    ],
)
def test_chains(name, expected):
    assert list(chains(ZOO[name]().model)) == expected


def test_graph_operations_are_members():
    model = ZOO["operations_in_the_graph"]().model

    assert [len(chain) for chain in chains(model)] == [3, 1, 1]  # dense tanh multiply, mean, out


def test_the_computation_of_a_mask_is_no_branch():
    x = keras.Input((5, 3))
    h = layers.Dense(3, name="dense")(x)
    h = layers.GRU(3, name="rnn")(layers.Masking(name="mask")(h))

    assert chains(keras.Model(x, h)) == (("dense", "mask", "rnn"),)


def test_an_output_on_the_way_ends_a_chain():
    x = keras.Input((3,))
    h = layers.Dense(3, name="a")(x)

    assert chains(keras.Model(x, [h, layers.Dense(1, name="b")(h)])) == (("a",), ("b",))


def test_follows():
    model = ZOO["residual_cnn"]().model

    assert set(follows(model, "conv_1")) == {"conv_2", "add"}
    assert follows(model, "out") == ()


def test_follows_an_unknown_path():
    with pytest.raises(ValueError, match="No layer has the path 'nothing'"):
        follows(ZOO["mlp"]().model, "nothing")


def test_output_paths_reach_into_nested_models():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="last")], name="inner")
    x = keras.Input((3,))

    assert output_paths(keras.Model(x, inner(x))) == ("inner/last",)


def test_input_consumers():
    model = ZOO["several_outputs"]().model

    assert input_consumers(model) == {"left": ("join",), "right": ("join",)}
    assert input_consumers(ZOO["subclassed"]().model) == {}
