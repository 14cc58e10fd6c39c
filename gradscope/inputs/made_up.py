"""Inputs that are made up from what the model says it takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.isolation import isolated
from gradscope.errors import CannotExamineError, UsageError

# Stand-ins for dimensions the model leaves open: long enough to see depth in time and space.
_OPEN_STEPS = 16
_OPEN_PIXELS = 32
_MOST_VALUES = 1 << 22  # of one sample of an input
_FEW = 2  # samples a batch at least
_WORDS = ("the", "gradient", "flows", "back", "through", "every", "layer")

# The dimensions of one sample; of several inputs by name.
InputShape = Sequence[int] | Mapping[str, Sequence[int]]


def make_up_inputs(
    model: keras.Model,
    input_shape: InputShape | None,
    batch_size: int,
    num_batches: int,
    rng: np.random.Generator,
) -> Iterator[Any]:
    """What the model takes, a batch at a time, in its structure.

    Raises:
        UsageError: an `input_shape` that does not fit the model.
        CannotExamineError: the model does not say what it takes.
    """
    try:
        specs = private.inputs_structure(model) if private.is_graph_class(model) else model.inputs
    except (AttributeError, ValueError):
        specs = None
    if isinstance(model, keras.Sequential) and model.built:
        specs = model.inputs[0]
    if (specs is None or not keras.tree.flatten(specs)) and isinstance(input_shape, Sequence):
        specs = keras.KerasTensor((None, *[None] * len(input_shape)), name="input")
    if specs is None or not keras.tree.flatten(specs):
        raise CannotExamineError(
            f"{type(model).__name__} {model.name!r} does not say what it takes, so no input can be "
            "made up. Pass data (x and y, or --data), or the shape of a sample (input_shape, or "
            "--input-shape)."
        )
    if isinstance(specs, (list, tuple)) and len(specs) == 1:
        specs = specs[0]
    if input_shape is not None:
        specs = _fill_in(specs, input_shape)
    vocabularies = _vocabularies(model)
    times = _times_that_fit(model, specs)
    count = batch_size if times == 1 else max(_FEW, batch_size // times)
    for _ in range(num_batches):
        make = lambda spec: _make_up(spec, count, times, vocabularies, rng)  # noqa: E731
        yield keras.tree.map_structure(make, specs)


def _fill_in(specs: Any, input_shape: InputShape) -> Any:
    """The input specs with the dimensions that were asked for."""
    flat = keras.tree.flatten(specs)
    names = ", ".join(repr(spec.name) for spec in flat)
    if not isinstance(input_shape, Mapping):
        if len(flat) > 1:
            raise UsageError(f"The model has several inputs: name each shape. Expected {names}.")
        input_shape = {flat[0].name: input_shape}
    by_name = {spec.name: spec for spec in flat}
    for name, shape in input_shape.items():
        if name not in by_name:
            raise UsageError(f"The model has no input {name!r}. Expected one of: {names}.")
        open_shape = tuple(by_name[name].shape[1:])
        pairs = list(itertools.zip_longest(shape, open_shape, fillvalue=0))
        if not all(isinstance(d, int) and d > 0 and known in (None, d) for d, known in pairs):
            raise UsageError(
                f"Input {name!r} takes samples of shape {open_shape}. Received: {tuple(shape)}."
            )

    def fill(spec: Any) -> Any:
        shape = input_shape.get(spec.name, spec.shape[1:])
        return keras.KerasTensor((spec.shape[0], *shape), dtype=spec.dtype, name=spec.name)

    return keras.tree.map_structure(fill, specs)


def _times_that_fit(model: keras.Model, specs: Any) -> int:
    """How many times the usual sizes open dimensions take until the model accepts its inputs.

    Doubled, as long as an input stays bounded: a model may crop, or pool without padding, more
    than the usual sizes have. 1 where no size is accepted: what is wrong then is not the size.
    """
    times = 1
    while _is_bounded(specs, times):
        if _accepts(model, specs, times):
            return times
        times *= 2
    return 1


def _is_bounded(specs: Any, times: int) -> bool:
    flat = keras.tree.flatten(specs)
    sizes = [math.prod(_shape(spec, 1, times)) for spec in flat]
    is_open = any(None in spec.shape[1:] for spec in flat)
    return is_open and max(sizes) <= _MOST_VALUES


def _accepts(model: keras.Model, specs: Any, times: int) -> bool:
    """Whether the shapes of the model's layers work out; nothing is computed."""
    symbol = lambda spec: keras.KerasTensor(_shape(spec, _FEW, times), dtype=spec.dtype)  # noqa: E731
    try:
        with isolated(model):
            model.compute_output_spec(keras.tree.map_structure(symbol, specs))
    except Exception:
        return False
    return True


def _shape(spec: Any, batch_size: int, times: int) -> list[int]:
    usual = _OPEN_PIXELS if len(spec.shape) >= 4 else _OPEN_STEPS
    return [spec.shape[0] or batch_size, *(d or usual * times for d in spec.shape[1:])]


def _make_up(
    spec: Any, batch_size: int, times: int, vocabularies: dict[str, int], rng: np.random.Generator
) -> tf.Tensor:
    shape = _shape(spec, batch_size, times)
    dtype = keras.backend.standardize_dtype(spec.dtype)
    if dtype == "string":
        return tf.constant(rng.choice(_WORDS, shape).tolist())
    if dtype == "bool":
        return tf.constant(rng.random(shape) < 0.5)
    limit = vocabularies.get(spec.name)
    if limit is not None or "int" in dtype:
        return tf.constant(rng.integers(0, limit or 2, shape), dtype)
    return tf.constant(rng.standard_normal(shape), dtype)


def _vocabularies(model: keras.Model) -> dict[str, int]:
    """For each model input that feeds an Embedding: how many rows that has."""
    limits: dict[str, int] = {}
    for layer in private.flat_layers(model):
        if not isinstance(layer, keras.layers.Embedding):
            continue
        for node in private.calls_of(layer):
            for tensor in node.input_tensors:
                limits[tensor.name] = min(layer.input_dim, limits.get(tensor.name, layer.input_dim))
    return limits
