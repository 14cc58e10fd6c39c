"""Random functional graphs: branches, merges, sharing and nesting, for property tests."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from hypothesis import strategies as st
from keras import layers

from tests.support.by_hand import by_nodes, normal, squared, two_batches
from tests.support.models import Case

WIDTH = 4
SAMPLES = 6
KINDS = ("dense", "norm", "layer norm", "dropout", "activation", "shared", "nested", "state")
MERGES = ("Add", "Multiply", "Concatenate", "Average", "Maximum")
FUNCTIONS = ("relu", "tanh", "sigmoid", "gelu", "linear", "softplus")


@dataclass(frozen=True)
class Node:
    """One layer: what it is, and which tensors made before it takes (the newest is 0)."""

    kind: str
    function: str
    inputs: tuple[int, ...]


nodes = st.builds(
    Node,
    kind=st.sampled_from((*KINDS, *MERGES)),
    function=st.sampled_from(FUNCTIONS),
    inputs=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
plans = st.tuples(st.lists(nodes, min_size=1, max_size=9), st.integers(1, 2), st.integers(1, 2))


class Counting(layers.Layer):
    """Keeps states of every kind and changes them in every call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(5)
        self.last = None

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        self.calls.assign_add(1.0)
        self.last = x
        noise = keras.random.normal(keras.ops.shape(x), seed=self.seeds)
        self.add_loss(1e-3 * keras.ops.mean(x**2))
        return self.scale * x + 0.1 * noise


def built(plan) -> Case:
    """The model of a plan, compiled, and two batches for it.

    Every tensor keeps WIDTH units, so that any may meet any. Tensors that nothing takes are added
    up into the first output, so that every weight counts.
    """
    steps, num_inputs, num_outputs = plan
    inputs = [keras.Input((WIDTH,), name=f"in_{i}") for i in range(num_inputs)]
    tensors, taken = list(inputs), set()
    shared = layers.Dense(WIDTH, "tanh", name="shared")
    inner = keras.Sequential(
        [
            keras.Input((WIDTH,)),
            layers.Dense(5, "elu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(WIDTH, name="second"),
        ],
        name="inner",
    )
    for number, node in enumerate(steps):
        chosen = [tensors[-1 - (i % len(tensors))] for i in node.inputs]
        taken |= {id(t) for t in (chosen if node.kind in MERGES else chosen[:1])}
        tensors.append(_applied(node, number, chosen, shared, inner))
    loose = [t for t in tensors if id(t) not in taken]
    top = layers.Add(name="collect")(loose) if len(loose) > 1 else loose[0]
    outputs = [layers.Dense(2, name=f"out_{i}")(top) for i in range(num_outputs)]
    model = keras.Model(inputs if num_inputs > 1 else inputs[0], outputs)
    model.compile(keras.optimizers.Adam(1e-3), ["mse"] * num_outputs)
    return Case(model, _batches(num_inputs, num_outputs), by_nodes, _loss(model))


def _applied(node, number, chosen, shared, inner):
    name = f"node_{number}"
    if node.kind in MERGES:
        merged = getattr(layers, node.kind)(name=name)(chosen)
        if node.kind == "Concatenate":
            merged = layers.Dense(WIDTH, node.function, name=f"{name}_narrow")(merged)
        return merged
    make = {
        "dense": lambda: layers.Dense(WIDTH, node.function, name=name),
        "norm": lambda: layers.BatchNormalization(name=name),
        "layer norm": lambda: layers.LayerNormalization(name=name),
        "dropout": lambda: layers.Dropout(0.3, seed=number, name=name),
        "activation": lambda: layers.Activation(node.function, name=name),
        "shared": lambda: shared,
        "nested": lambda: inner,
        "state": lambda: Counting(name=name),
    }
    return make[node.kind]()(chosen[0])


def _batches(num_inputs, num_outputs):
    x = [normal(2 * SAMPLES, WIDTH, seed=i) for i in range(num_inputs)]
    y = [normal(2 * SAMPLES, 2, seed=9 + i) for i in range(num_outputs)]
    return two_batches(x if num_inputs > 1 else x[0], y if num_outputs > 1 else y[0])


def _loss(model):
    """Squared errors, and what layers added on the way (the same tensors the model holds)."""

    def loss(y, predicted, weight):
        pairs = zip(keras.tree.flatten(y), keras.tree.flatten(predicted), strict=True)
        return sum(squared(a, b) for a, b in pairs) + sum(model.losses)

    return loss
