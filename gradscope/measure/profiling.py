"""Captures -> Profile: run a model on batches and put what was noted into records."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope._version import __version__
from gradscope.backend.isolation import isolated, value_of
from gradscope.backend.optimizers import momentum_name, unwrap
from gradscope.backend.sites import Site, own_variables, sites
from gradscope.errors import CannotExamineError
from gradscope.inputs.batches import Batch
from gradscope.measure import activations
from gradscope.measure.layer_call import Row
from gradscope.measure.loss_terms import loss_terms
from gradscope.measure.moving_statistics import inference_gaps
from gradscope.measure.own_terms import find_own_terms
from gradscope.measure.passes import (
    Captured,
    Objective,
    capture,
    flat_curvature,
    non_finite_origin,
)
from gradscope.measure.stops import stop_of
from gradscope.measure.weights import kernel_stats, ratio, undo_scale, weight_profiles
from gradscope.messages import one_line
from gradscope.records import (
    BackwardFactors,
    DataCard,
    LayerProfile,
    LossCard,
    LossTerm,
    ModelCard,
    Profile,
    TensorStats,
    Timesteps,
    WeightProfile,
)

GRADIENT_ROLES = ("input_gradient", "preactivation_gradient", "activation_gradient")


def profile(
    model: keras.Model,
    batches: Sequence[Batch],
    data: DataCard,
    objective: Objective,
    **options: Any,
) -> Profile:
    """As `profile_in_isolation`, whose options it takes; the model is left as it was."""
    with isolated(model) as restart:
        return profile_in_isolation(model, batches, data, objective, restart, **options)


def profile_in_isolation(
    model: keras.Model,
    batches: Sequence[Batch],
    data: DataCard,
    objective: Objective,
    restart: Callable[[], None],
    *,
    seed: int = 0,
    steps: int = 0,
    source: str | None = None,
    labelled: Sequence[Batch] | None = None,
) -> Profile:
    """Measure a built model on the batches.

    The caller holds the model in `isolation.isolated`, which gives `restart`; the model is left as
    that makes it.

    Args:
        labelled: batches whose labels are compared with the outputs, where those are more.

    Raises:
        CannotExamineError: no trainable weights, or the model refuses the data.
    """
    if not model.trainable_weights:
        raise CannotExamineError(
            f"Model {model.name!r} has no trainable weights, so no gradient flows. "
            "Set trainable = True on the layers to examine."
        )
    places = sites(model)
    values = {id(v): value_of(v) for v in model.weights}  # a pass changes moving statistics
    captured = capture(model, places, batches, objective, restart)
    _check_built(model, values)
    weights, no_update = weight_profiles(model, captured, values)
    # Before batches are run again from where these passes began.
    gaps = _inference_gaps(places, values, captured, len(batches), objective)
    origin = non_finite_origin(model, places, batches, objective, captured, restart)
    curvature = failure = None
    try:
        curvature = flat_curvature(model, places, batches, objective, captured, restart)
    except Exception as error:  # which must not cost the report
        failure = f"following them failed: {one_line(error)}"
    own_terms: tuple[LossTerm, ...] = ()
    if objective.own_step:
        restart()
        own_terms = find_own_terms(model, places, batches[0], captured.losses[0], data.tensors)
    restart()
    terms = loss_terms(model, captured.outputs, labelled or batches, objective, data.tensors)
    known = captured.term_losses
    terms = tuple(
        dataclasses.replace(t, value=known[t.output])
        if math.isfinite(known.get(t.output, math.nan))
        else t
        for t in terms
    )
    return Profile(
        model=model_card(model, places, [u.optimizer for u in captured.updaters], source),
        data=data,
        loss=_loss_card(captured, objective, terms, own_terms),
        layers=tuple(layer_profiles(places, captured, weights, no_update, gaps)),
        seed=seed,
        steps=steps,
        versions=versions(),
        non_finite=origin,
        flat_curvature=curvature,
        curvature_unmeasured=failure,
    )


def _inference_gaps(
    places: tuple[Site, ...],
    values: dict[int, Any],
    captured: Captured,
    num_batches: int,
    objective: Objective,
) -> dict[str, float]:
    """Of BatchNormalization; how often a step of the user's own updates it is not known."""
    if objective.own_step:
        return {}
    calls = Counter(row.site.path for row in captured.rows.rows.values())
    every = Counter({path: count * num_batches for path, count in calls.items()})
    return inference_gaps(places, values, every)


def _check_built(model: keras.Model, known: Mapping[int, Any]) -> None:
    """Weights that a pass has made were not there to be measured, and had no gradient."""
    made = [v.path for v in model.weights if id(v) not in known]
    if made:
        raise CannotExamineError(
            f"{type(model).__name__} builds {made[0]} only while it is trained. Call fit for one "
            "step first, or build its layer in the model's constructor."
        )


def versions() -> dict[str, str]:
    """The versions a measurement depends on."""
    return {
        "gradscope": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def model_card(
    model: keras.Model, places: tuple[Site, ...], optimizers: Sequence[Any], source: str | None
) -> ModelCard:
    """What a reader wants to know of the model first."""
    rates = {float(tf.convert_to_tensor(optimizer.learning_rate)) for optimizer in optimizers}
    momenta = {_momentum(optimizer) for optimizer in optimizers}
    rate = rates.pop() if len(rates) == 1 else None
    kinds = dict.fromkeys(type(optimizer).__name__ for optimizer in optimizers)
    return ModelCard(
        name=model.name,
        class_=type(model).__name__,
        num_layers=sum(1 for s in places if isinstance(s.layer, keras.Layer)) - 1,
        num_params=sum(math.prod(v.shape) for v in model.weights),  # count_params wants it built
        source=source,
        optimizer="+".join(kinds) or None,
        learning_rate=rate if rate is not None and math.isfinite(rate) else None,
        dtype_policy=model.dtype_policy.name,
        momentum=momenta.pop() if len(momenta) == 1 else None,
        optimizers=tuple(name for o in optimizers if (name := _attribute(model, o)) is not None),
    )


def _attribute(model: keras.Model, optimizer: Any) -> str | None:
    """The attribute that holds an optimizer."""
    if optimizer is model.optimizer:
        return "optimizer"
    return next((name for name, value in vars(model).items() if value is optimizer), None)


def _momentum(optimizer: Any) -> float | None:
    """The share of its last step that a step keeps."""
    name = momentum_name(optimizer)
    held = getattr(unwrap(optimizer), name) if name else None
    return float(held) if isinstance(held, int | float) and 0 < held < 1 else None


def _loss_card(
    captured: Captured,
    objective: Objective,
    terms: tuple[LossTerm, ...],
    own_terms: tuple[LossTerm, ...],
) -> LossCard:
    value = float(np.mean(captured.losses))
    known = value if math.isfinite(value) else None
    return LossCard(objective.name, known, objective.note, terms, own_terms)


def layer_profiles(
    places: tuple[Site, ...],
    captured: Captured,
    weights: dict[int, WeightProfile],
    no_update: str = "",
    gaps: Mapping[str, float] = MappingProxyType({}),
) -> list[LayerProfile]:
    """Rows in forward order; layers with weights that were never called come last.

    Args:
        no_update: why there is none of a weight that has a gradient.
        gaps: `inference_gap` by path.
    """
    rows = captured.rows.rows
    called = {row.site.path for row in rows.values()}
    owned = {site.path: _find_owned(site, weights) for site in places}
    profiles = [
        _layer(row, owned[row.site.path], captured, no_update, gaps.get(row.site.path))
        for row in rows.values()
    ]
    silent = [site for site in places if site.path not in called]
    return profiles + [
        _describe_uncalled(site, owned[site.path])
        for site in silent
        if any(w.trainable for w in owned[site.path])
    ]


def _find_owned(site: Site, weights: dict[int, WeightProfile]) -> tuple[WeightProfile, ...]:
    return tuple(weights[id(v)] for v in own_variables(site) if id(v) in weights)


def _describe_uncalled(site: Site, weights: tuple[WeightProfile, ...]) -> LayerProfile:
    kernel, gradient, update = kernel_stats(weights)
    return LayerProfile(
        path=site.path or site.layer.name,
        class_=type(site.layer).__name__,
        call=0,
        activation=None,
        trainable=True,
        depth=0,
        kernel=kernel,
        kernel_gradient=gradient,
        update=update,
        update_ratio=ratio(update, kernel),
        weights=weights,
    )


def _layer(
    row: Row,
    weights: tuple[WeightProfile, ...],
    captured: Captured,
    no_update: str,
    gap: float | None,
) -> LayerProfile:
    stats = captured.rows.stats
    gradients = {role: undo_scale(stats(row, role), captured.loss_scale) for role in GRADIENT_ROLES}
    kernel, kernel_gradient, update = kernel_stats(weights)
    known = row.derivative
    num_units = None if row.dead is None else int(row.dead.size)
    num_dead = None if row.dead is None else int(row.dead.sum())
    return LayerProfile(
        path=row.site.path,
        class_=type(row.site.layer).__name__,
        call=row.call,
        activation=row.activation,
        trainable=any(w.trainable for w in weights),
        depth=row.depth,
        inputs=row.inputs,
        added_to=row.added_to,
        output_shape=row.output_shape,
        compute_dtype=str(getattr(row.site.layer, "compute_dtype", None) or keras.config.floatx()),
        input=stats(row, "input"),
        preactivation=stats(row, "preactivation"),
        output=stats(row, "output"),
        kernel=kernel,
        kernel_gradient=kernel_gradient,
        update=update,
        backward=_factors(row, gradients, bool(weights)),
        saturated_fraction=_share(row.num_low, row.num_preactivations),
        dead_fraction=_share(num_dead, num_units),
        num_dead=num_dead,
        num_units=num_units,
        gate_saturated_fraction=_share(row.num_gate_low, row.num_gates),
        max_derivative=None if known is None else known.maximum,
        saturates=bool(known and known.saturates),
        update_ratio=ratio(update, kernel),
        timesteps=_timesteps(row),
        sample_variation=_variation(row.varied_squares, row.compared_squares),
        position_variation=_variation(*(row.placed_squares or (0.0, None))),
        underflow_fraction=_underflow_fraction(row, captured),
        stop=stop_of(row.site.layer),
        inference_gap=gap,
        attention=None if row.attention is None else row.attention.profile(),
        features=None if row.features is None else row.features.scales(),
        weights=weights,
        unmeasured=row.unmeasured | _without_update(weights, no_update),
        **gradients,
    )


def _without_update(weights: tuple[WeightProfile, ...], reason: str) -> dict[str, str]:
    """Notes that an update is missing, where the optimizer was given a gradient."""
    lacking = any(w.trainable and w.reached and w.update is None for w in weights)
    return {"update_ratio": reason} if lacking and reason else {}


def _variation(around_mean: float, around_zero: float | None) -> float | None:
    if around_zero is None:
        return None
    return math.sqrt(around_mean / around_zero) if around_zero else 0.0


def _underflow_fraction(row: Row, captured: Captured) -> float | None:
    """The share of entries that are zero at the loss scale in force and only there.

    Zeros of ReLU and of masks are zero at any scale.
    """
    if captured.amplified is None or getattr(row.site.layer, "compute_dtype", None) != "float16":
        return None
    amplified = captured.amplified.rows.get(row.id)
    in_force = captured.rows.stats(row, "activation_gradient")
    largest = amplified and captured.amplified.stats(amplified, "activation_gradient")
    if not in_force or not largest or largest.zero_fraction == 1.0:
        return None
    return max(0.0, 1.0 - (1.0 - in_force.zero_fraction) / (1.0 - largest.zero_fraction))


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None


def _factors(
    row: Row, gradients: dict[str, TensorStats | None], has_weights: bool
) -> BackwardFactors:
    """Ratios of the gradients around one call (chain rule: dL/dx = J_z^T diag(f'(z)) dL/da)."""
    into, z, out = (gradients[role] for role in GRADIENT_ROLES)
    gain = _rms_ratio(into, out)
    if row.activation is None:
        return BackwardFactors(None, gain if has_weights else None, gain)
    if activations.is_activation(row.site.layer):  # its input is the pre-activation
        return BackwardFactors(gain, None, gain)
    return BackwardFactors(_rms_ratio(z, out), _rms_ratio(into, z), gain)


def _rms_ratio(upper: TensorStats | None, lower: TensorStats | None) -> float | None:
    if upper is None or lower is None or not lower.rms:
        return None
    if min(upper.finite_fraction, lower.finite_fraction) < 1.0:
        return None
    return upper.rms / lower.rms


def _timesteps(row: Row) -> Timesteps | None:
    """The per-step curve; pooled over batches and entries."""
    sums = np.array(row.steps[row.num_trial_steps :], np.float64)
    if not len(sums) or not np.isfinite(sums).all() or not sums[:, 1].any():
        return None
    entering, leaving, first, count = sums.T
    rms = np.sqrt(np.divide(first, count, out=np.zeros_like(first), where=count > 0))
    arrives = leaving[1:] > 0
    ratio = np.divide(entering[1:], leaving[1:], out=np.ones_like(entering[1:]), where=arrives)
    gain = np.sqrt(ratio)
    return Timesteps(tuple(rms.tolist()), tuple(gain.tolist()), half_life(gain[arrives]))


def half_life(gain: np.ndarray) -> float | None:
    """Steps in which a signal multiplied by `gain` each step halves; None where it does not."""
    if not len(gain):
        return None
    if not gain.all():
        return 0.0
    octaves = -float(np.mean(np.log2(gain)))
    return 1.0 / octaves if octaves > 0 else None
