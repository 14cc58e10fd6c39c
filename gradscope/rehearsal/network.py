"""The plain network: a reader for each input, two hidden layers, a head for each output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from gradscope.rehearsal.inputs import InputPlan, Reading, shape_input
from gradscope.rehearsal.labels import Target

MAX_RECURRENT = 16  # steps of the GRU where one label is wanted for the whole sequence


def build_network(
    plans: tuple[InputPlan, ...], targets: tuple[Target, ...], seed: int
) -> keras.Model:
    """All layers are named, seeded and typed, so that no global state of Keras is used or moved."""
    make = _Maker(seed)
    inputs, vectors, grids = [], [], {}
    wanted = {t.grid.source for t in targets if t.grid is not None}
    for index, plan in enumerate(plans):
        tensor = keras.Input(_network_shape(plan), dtype=_dtype(plan), name=f"yardstick_x{index}")
        inputs.append(tensor)
        vector, grid = _READERS[plan.reading](make, tensor, plan, index in wanted)
        grids[index] = grid
        vectors.append(vector)
    parts = [v for v in vectors if v is not None]
    whole = None
    if parts:
        whole = make.join(parts) if len(parts) > 1 else parts[0]
        whole = make.dense(make.dense(whole, 128), 64)
    outputs, losses = [], []
    for target in targets:
        outputs.append(_add_head(make, target, whole, grids))
        losses.append(_choose_loss(target))
    model = keras.Model(inputs, outputs, name="yardstick")
    # Only the ids of a batch move their embeddings, so those get on too slowly at the usual rate.
    has_tokens = any(plan.reading == "tokens" for plan in plans)
    model.compile(
        optimizer=keras.optimizers.Adam(3e-3 if has_tokens else 1e-3, name="yardstick_adam"),
        loss=losses,
        jit_compile=False,
    )
    return model


def _network_shape(plan: InputPlan) -> tuple[int, ...]:
    dummy = np.broadcast_to(np.zeros((), "int8"), (1, *plan.shape))
    return shape_input(plan, dummy).shape[1:]


def _dtype(plan: InputPlan) -> str:
    return "int32" if plan.reading == "tokens" else "float32"


class _Maker:
    """Layers whose names and seeds are counted here, not in Keras's global state."""

    def __init__(self, seed: int) -> None:
        self._seed = seed * 1009
        self._count = 0

    def take(self) -> dict[str, Any]:
        self._count += 1
        return {"name": f"yardstick_{self._count}", "dtype": "float32"}

    def start(self, scheme: type[keras.Initializer] = keras.initializers.HeNormal) -> Any:
        self._count += 1
        return scheme(seed=self._seed + self._count)

    def dense(self, tensor: Any, units: int) -> Any:
        layer = keras.layers.Dense(units, "relu", kernel_initializer=self.start(), **self.take())
        return layer(tensor)

    def head(self, tensor: Any, units: int) -> Any:
        # A small start, so that the first predictions are near those of the constant.
        start = keras.initializers.RandomNormal(stddev=0.01, seed=self._seed)
        return keras.layers.Dense(units, kernel_initializer=start, **self.take())(tensor)

    def convolve(self, tensor: Any, filters: int, size: int = 3) -> Any:
        kind = keras.layers.Conv2D if len(tensor.shape) == 4 else keras.layers.Conv1D
        layer = kind(
            filters,
            size,
            padding="same",
            activation="relu",
            data_format="channels_last",
            kernel_initializer=self.start(),
            **self.take(),
        )
        return layer(tensor)

    def pool(self, tensor: Any, size: int = 2) -> Any:
        """The largest of each block, where the blocks leave anything."""
        kind = keras.layers.MaxPooling2D if len(tensor.shape) == 4 else keras.layers.MaxPooling1D
        if size == 1 or min(tensor.shape[1:-1]) < size:
            return tensor
        return kind(size, padding="same", data_format="channels_last", **self.take())(tensor)

    def join(self, tensors: list[Any]) -> Any:
        return keras.layers.Concatenate(**self.take())(tensors)

    def summarise(self, tensor: Any) -> list[Any]:
        """Mean and largest value over time."""
        return [
            kind(data_format="channels_last", **self.take())(tensor)
            for kind in (keras.layers.GlobalAveragePooling1D, keras.layers.GlobalMaxPooling1D)
        ]

    def recur(self, tensor: Any, units: int, every: bool) -> Any:
        start = keras.initializers
        layer = keras.layers.GRU(
            units,
            return_sequences=every,
            kernel_initializer=self.start(start.GlorotUniform),
            recurrent_initializer=self.start(start.Orthogonal),
            seed=self._seed,
            **self.take(),
        )
        return layer(tensor)


def _read_vector(make: _Maker, tensor: Any, plan: InputPlan, mapped: bool) -> tuple[Any, Any]:
    return tensor, None


def _read_tokens(make: _Maker, tensor: Any, plan: InputPlan, mapped: bool) -> tuple[Any, Any]:
    start = keras.initializers.RandomNormal(stddev=0.1, seed=make._seed + 7)
    units = len(plan.vocabulary) + 1
    embedded = keras.layers.Embedding(units, 32, embeddings_initializer=start, **make.take())(
        tensor
    )
    steps = embedded.shape[1]
    if steps <= 8 and not mapped:  # a user and an item: each place has a meaning of its own
        return keras.layers.Flatten(data_format="channels_last", **make.take())(embedded), None
    if not mapped:
        local = make.convolve(embedded, 32)
        return make.join([*make.summarise(embedded), *make.summarise(local)]), None
    return _read_steps(make, embedded)


def _read_sequence(make: _Maker, tensor: Any, plan: InputPlan, mapped: bool) -> tuple[Any, Any]:
    if mapped:
        return _read_steps(make, tensor)
    local = make.convolve(tensor, 32, 5)
    short = make.pool(local, -(-tensor.shape[1] // MAX_RECURRENT))
    return make.join([make.recur(short, 32, False), *make.summarise(local)]), None


def _read_steps(make: _Maker, tensor: Any) -> tuple[Any, Any]:
    """Each step sees itself, its neighbours, what came before, and all of it in short."""
    local = make.convolve(tensor, 32, 5)
    states = make.recur(make.join([tensor, local]), 32, True)
    whole = make.join([*make.summarise(states), *make.summarise(local)])
    repeated = keras.layers.RepeatVector(tensor.shape[1], **make.take())(whole)
    return whole, make.join([tensor, local, states, repeated])


def _read_image(make: _Maker, tensor: Any, plan: InputPlan, mapped: bool) -> tuple[Any, Any]:
    if not mapped:
        deep = make.pool(make.convolve(make.pool(make.convolve(tensor, 16)), 32))
        return keras.layers.Flatten(data_format="channels_last", **make.take())(deep), None
    # Hypercolumns (Hariharan et al., 2015): each pixel sees three scales, at a tenth of the price
    # of a decoder.
    fine = make.convolve(tensor, 8)
    middle = make.convolve(make.pool(fine), 16)
    coarse = make.convolve(make.pool(middle), 16)
    columns = [tensor, fine, *(_enlarge(make, t, fine) for t in (middle, coarse))]
    return None, make.convolve(make.join(columns), 16, 1)


def _enlarge(make: _Maker, tensor: Any, like: Any) -> Any:
    sides = like.shape[1:3]
    factors = tuple(-(-side // own) for side, own in zip(sides, tensor.shape[1:3], strict=True))
    large = keras.layers.UpSampling2D(factors, data_format="channels_last", **make.take())(tensor)
    excess = tuple((0, have - side) for have, side in zip(large.shape[1:3], sides, strict=True))
    if not any(e for _, e in excess):
        return large
    return keras.layers.Cropping2D(excess, data_format="channels_last", **make.take())(large)


_READERS: dict[Reading, Callable[..., tuple[Any, Any]]] = {
    "vector": _read_vector,
    "tokens": _read_tokens,
    "sequence": _read_sequence,
    "image": _read_image,
}


def _add_head(make: _Maker, target: Target, whole: Any, grids: dict[int, Any]) -> Any:
    units = target.num_units
    if target.grid is not None:
        tensor = grids[target.grid.source]
        if len(target.grid.shape) == 1:
            tensor = make.dense(tensor, 64)
        return make.head(tensor, units)
    if whole is None:  # the only input is a picture, read pixel by pixel for another output
        tensor = next(iter(grid for grid in grids.values() if grid is not None))
        whole = keras.layers.Flatten(data_format="channels_last", **make.take())(
            make.pool(tensor, 4)
        )
        whole = make.dense(whole, 64)
    count = target.num_positions if target.positions is None else len(target.positions)
    if count == 1:
        return make.head(whole, units)
    return keras.layers.Reshape((count, units), **make.take())(make.head(whole, count * units))


def _choose_loss(target: Target) -> keras.losses.Loss:
    if target.kind == "numbers":
        return keras.losses.MeanSquaredError(dtype="float32")
    if target.kind in ("one-hot", "indices"):
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float32")
    return keras.losses.BinaryCrossentropy(from_logits=True, dtype="float32")
