"""capture: the activations and gradients of layers themselves, as arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.analysis import build, check_model, label_batches
from gradscope.arguments import as_ids
from gradscope.backend.isolation import isolated
from gradscope.backend.sites import Site, own_variables, sites
from gradscope.backend.train_step import has_own_step
from gradscope.errors import UsageError
from gradscope.inputs.batches import take_one_batch
from gradscope.measure import passes
from gradscope.measure.kept_values import STEPS, KeptRows, Values
from gradscope.measure.layer_call import Row
from gradscope.measure.objective import objective
from gradscope.messages import unknown

KINDS = (
    "input",
    "preactivation",
    "activation",
    "state",
    "input_gradient",
    "preactivation_gradient",
    "gradient",
    "state_gradient",
    "weight_gradient",
)

Captured = dict[str, dict[str, Any]]


def capture(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    layers: Collection[str] | str | None = None,
    kinds: Collection[str] | str = ("activation", "gradient"),
    loss: Any = None,
) -> Captured:
    """Return what one forward and backward pass computes in each layer, as NumPy arrays.

    All samples of `x` go through the model as one batch, in training mode, as in a step of `fit`.
    Nested and subclassed models are looked into. The model is left exactly as it was.

    Example:
        >>> values = gradscope.capture(model, x_train[:32], y_train[:32], layers=["dense_1"])
        >>> values["dense_1"]["activation"].shape
        (32, 64)
        >>> abs(values["dense_1"]["gradient"]).mean()

    Args:
        model: as for `analyze`.
        x: arrays, of which all samples are used, or a data set or generator, of which the first
            batch is.
        y: labels to `x`. Without them only kinds that are not gradients can be captured.
        layers: names of layers as in a report ("block/dense"); the name of a block or an inner
            model stands for all layers in it. All layers by default.
        kinds: any of

            - `"input"`, `"preactivation"` (before the layer's own activation function) and
              `"activation"` (the layer's output), of shape (samples, ...);
            - `"input_gradient"`, `"preactivation_gradient"` and `"gradient"`: the gradient of the
              loss with respect to these three;
            - `"state"` and `"state_gradient"`: of recurrent layers, the first state after each
              time step, of shape (samples, steps, units), in the order of processing;
            - `"weight_gradient"`: that of each trainable weight, under its own name
              ("kernel_gradient", "bias_gradient"), of the weight's shape.
        loss: as for `analyze`.

    Returns:
        A dict by layer, in the order of the calls, of dicts by kind. A layer that is called more
        than once has "dense_1:1" for its second call, and so on. A kind that a layer does not have
        is missing; a gradient that does not arrive is None. Several inputs or outputs of a layer
        are a list.

    Raises:
        UsageError: an unknown layer or kind, or gradients are asked for without labels.
        UnreadableError: as for `analyze`.
        CannotExamineError: as for `analyze`.
    """
    check_model(model)
    chosen = _check_kinds(kinds)
    with isolated(model):  # reading the data may draw from generators that the process shares
        batch = take_one_batch(x, y)
    build(model, batch, has_own_step(model) and model.compiled and loss is None)
    places = sites(model)
    paths = _find_paths(places, layers)
    target = objective(model, loss, batch)
    if target.loss is not None and batch.y is None:
        if asked := [kind for kind in chosen if kind.endswith("gradient")]:
            raise UsageError(f"{asked[0]!r} needs labels. Pass y, or leave it out of kinds.")
        [batch] = label_batches(model, [batch], target, seed=0)
    made: list[KeptRows] = []

    def make_rows(shares: bool) -> KeptRows:
        made.append(KeptRows(paths, chosen))
        return made[-1]

    with isolated(model) as restart:
        captured = passes.capture(model, places, [batch], target, restart, make_rows)
    rows = next(each for each in made if each is captured.rows)
    found = {
        _name(row): _arrays(row, rows.values.get(row.id, {}), chosen, captured.loss_scale)
        for row in rows.rows.values()
        if row.site.path in paths
    }
    if "weight_gradient" in chosen:
        for path, arrays in _weight_gradients(model, places, captured):
            if path in found:
                found[path] |= arrays
    return found


def _name(row: Row) -> str:
    return row.id if row.call else row.site.path


def _check_kinds(kinds: Collection[str] | str) -> Collection[str]:
    chosen = as_ids(kinds)
    for kind in chosen:
        if kind not in KINDS:
            raise UsageError(unknown("kind of value", kind, KINDS, f"Known: {', '.join(KINDS)}."))
    return chosen


def _find_paths(places: Iterable[Site], layers: Collection[str] | str | None) -> set[str]:
    """The paths of the layers that are meant by these names."""
    known = [site.path for site in places if site.path]
    if layers is None:
        return set(known)
    found: set[str] = set()
    for name in as_ids(layers):
        meant = [path for path in known if f"{path}/".startswith(f"{name}/")]
        if not meant:
            raise UsageError(unknown("layer", name, known, f"Known: {', '.join(known)}."))
        found.update(meant)
    return found


def _arrays(row: Row, values: Values, kinds: Collection[str], scale: float) -> dict[str, Any]:
    """What was kept of one call, gradients without the loss scale of mixed precision."""
    arrays: dict[str, Any] = {}
    for kind in kinds:
        held = values.get(kind, {})
        array = _stack(row, held) if kind in STEPS else _unpack(held)
        of = kind.removesuffix("gradient").rstrip("_") or "activation"
        if kind.endswith("gradient") and array is not None and scale != 1.0:
            array = keras.tree.map_structure(lambda a: a / scale, array)
        if array is not None or (kind != of and of in values):
            arrays[kind] = array
    return arrays


def _unpack(held: Mapping[int, np.ndarray]) -> Any:
    """One array where there is one, a list where a layer has several inputs or outputs."""
    parts = [held[number] for number in sorted(held)]
    return parts if len(parts) > 1 else parts[0] if parts else None


def _stack(row: Row, held: Mapping[int, np.ndarray]) -> np.ndarray | None:
    """The arrays of all time steps along axis 1; zeros where no gradient arrives."""
    if not held:
        return None
    nothing = np.zeros_like(next(iter(held.values())))
    steps = range(row.num_trial_steps, row.num_steps)
    return np.stack([held.get(step, nothing) for step in steps], axis=1)


def _weight_gradients(
    model: keras.Model, places: Iterable[Site], captured: passes.Captured
) -> Iterator[tuple[str, dict[str, np.ndarray | None]]]:
    """By path, the gradient of each trainable weight under the weight's name."""
    pairs = zip(model.trainable_weights, captured.gradients, strict=True)
    by_weight = {id(weight): gradient for weight, gradient in pairs}
    for site in places:
        own = [v for v in own_variables(site) if id(v) in by_weight]
        yield (
            site.path,
            {
                f"{v.name}_gradient": None
                if by_weight[id(v)] is None
                else tf.convert_to_tensor(by_weight[id(v)]).numpy() / captured.loss_scale
                for v in own
            },
        )
