"""What a compiled step hands out, against the eager taps on the same batch."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gradscope.measure.objective import objective
from gradscope.measure.profiling import profile
from gradscope.monitor.graph_stats import SAMPLE
from gradscope.monitor.snapshot import numbers_in
from gradscope.monitor.train_functions import Functions
from gradscope.records import DataCard, LayerProfile, TensorStats
from tests.support.by_hand import normal
from tests.support.models import ZOO, Case, mixed_precision, mlp

REL = 2e-5  # float32 sums against float64 ones
ROUNDED = 1e-3
SHARE = 0.03  # of what is counted on an even sample of 2,048 entries
SHARES = ("zero_fraction", "saturated_fraction", "gate_saturated_fraction", "finite_fraction")
# A compiled step does not know these.
UNKNOWN = (
    "underflow_fraction",
    "num_distinct_units",
    "num_zero_units",
    "position_variation",
    "histogram",
)
# Dropout draws anew; without an optimizer there is no update to compare.
NOT_COMPARED = ("dropout_and_penalty", "uncompiled")


def tapped_layers(case: Case) -> tuple[LayerProfile, ...]:
    """One compiled step on the first batch, as fit takes it."""
    model, batch = case.model, case.batches[0]
    if not model.compiled:
        model.compile("sgd", objective(model, None, batch).loss)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    functions = Functions(model)
    parts = [p for p in batch if p is not None]
    found = functions.run_tapped([tuple(parts)])
    snap = functions.snap_of(found)
    assert snap is not None
    snap.scale = numbers_in(found["numbers"][0].numpy()).scale
    return snap.layers()


def differences(compiled, eager, where=""):
    """Where two records differ by more than is allowed."""
    if isinstance(eager, TensorStats) and isinstance(compiled, TensorStats):
        # A spread far below the mean is a difference of two numbers that float32 rounds.
        if abs(compiled.std - eager.std) > ROUNDED * eager.rms:
            yield f"{where}.std: {compiled.std} instead of {eager.std}"
        compiled = dataclasses.replace(compiled, std=eager.std)
    if dataclasses.is_dataclass(eager) and dataclasses.is_dataclass(compiled):
        for f in dataclasses.fields(eager):
            if f.name not in UNKNOWN:
                yield from differences(
                    getattr(compiled, f.name), getattr(eager, f.name), f"{where}.{f.name}"
                )
    elif isinstance(eager, tuple) and isinstance(compiled, tuple) and len(eager) == len(compiled):
        for n, pair in enumerate(zip(compiled, eager, strict=True)):
            yield from differences(*pair, f"{where}[{n}]")
    elif isinstance(eager, float) and isinstance(compiled, (int, float)):
        name = where.rsplit(".", 1)[-1]
        allowed = SHARE if name in SHARES else REL * max(abs(eager), abs(compiled)) + 1e-7
        if abs(compiled - eager) > allowed:
            yield f"{where}: {compiled} instead of {eager}"
    elif compiled != eager:
        yield f"{where}: {compiled!r} instead of {eager!r}"


def without_statistics_of_states(layer: LayerProfile) -> LayerProfile:
    """Moving averages are measured before the step here, and after the passes there."""
    return dataclasses.replace(layer, weights=tuple(w for w in layer.weights if w.trainable))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ZOO) - set(NOT_COMPARED)))
def test_compiled_statistics_equal_those_of_the_eager_taps(name, seeded):
    case = ZOO[name]()
    batch = case.batches[:1]
    target = objective(case.model, None, batch[0])
    eager = profile(case.model, batch, DataCard("arrays", 0, 1), target).layers
    found = tapped_layers(case)

    assert [layer.id for layer in found] == [layer.id for layer in eager]
    for mine, theirs in zip(found, eager, strict=True):
        pair = (without_statistics_of_states(layer) for layer in (mine, theirs))
        assert list(differences(*pair, mine.id)) == []


@pytest.mark.slow
def test_unscaled_gradients_under_mixed_precision(seeded):
    case = mixed_precision()
    target = objective(case.model, None, case.batches[0])
    eager = profile(case.model, case.batches[:1], DataCard("arrays", 0, 1), target).layers
    found = tapped_layers(case)

    for mine, theirs in zip(found, eager, strict=True):
        assert mine.kernel_gradient.l2_norm == pytest.approx(
            theirs.kernel_gradient.l2_norm, rel=1e-2
        )


def pair_of_statistics(array: np.ndarray) -> tuple[TensorStats, TensorStats]:
    from gradscope.measure.tensor_stats import stats
    from gradscope.monitor import graph_stats

    found = graph_stats.reduce([tf.constant(array)])
    numbers = {name: tensor.numpy() for name, tensor in found.items()}
    return graph_stats.stats_of(**numbers)[0], stats(array)


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e-30, 1e20], ids=str)
def test_moments_hold_over_the_whole_range_of_float32(scale):
    mine, theirs = pair_of_statistics((normal(64, 100) * scale).astype("float32"))

    for name in ("mean", "std", "rms", "l2_norm", "abs_max"):
        assert getattr(mine, name) == pytest.approx(
            getattr(theirs, name), rel=1e-5, abs=1e-6 * scale
        )


def test_a_small_tensor_is_counted_whole():
    mine, theirs = pair_of_statistics(np.maximum(normal(16, 100), 0.0))

    assert mine.zero_fraction == theirs.zero_fraction
    assert mine.histogram == theirs.histogram


def test_a_large_tensor_is_counted_on_an_even_sample():
    array = np.maximum(normal(300, 400), 0.0)
    mine, theirs = pair_of_statistics(array)

    assert mine.zero_fraction == pytest.approx(
        theirs.zero_fraction, abs=4 * 0.5 / math.sqrt(SAMPLE)
    )
    assert sum(mine.histogram.counts) == pytest.approx(sum(theirs.histogram.counts), rel=0.05)


def test_one_nan_among_many_is_seen_although_it_is_not_in_the_sample():
    array = normal(300, 400)
    array[17, 3] = np.nan
    mine, theirs = pair_of_statistics(array)

    assert 0.0 < 1.0 - mine.finite_fraction < 1e-3
    assert mine.rms == pytest.approx(theirs.rms, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("unrolled", [False, True], ids=["loop", "unrolled"])
def test_steps_of_a_compiled_loop(kind, unrolled, seeded):
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            getattr(layers, kind)(4, unroll=unrolled, return_sequences=True, name="one"),
            getattr(layers, kind)(4, go_backwards=True, name="two"),
            layers.Dense(2),
        ]
    )
    model.compile("sgd", "mse")
    case = dataclasses.replace(mlp(), model=model)
    from gradscope.inputs.batches import Batch

    case = dataclasses.replace(
        case, batches=[Batch(tf.constant(normal(8, 6, 3)), tf.constant(normal(8, 2)))]
    )
    target = objective(model, None, case.batches[0])
    eager = profile(model, case.batches, DataCard("arrays", 0, 1), target).layers
    found = tapped_layers(case)

    for mine, theirs in zip(found[:2], eager[:2], strict=True):
        assert mine.timesteps is not None
        assert list(differences(mine.timesteps, theirs.timesteps)) == []
        assert mine.gate_saturated_fraction == theirs.gate_saturated_fraction


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_each_function_is_traced_once(optimizer, seeded):
    model = mlp().model
    model.compile(optimizer, "mse")
    functions = Functions(model)
    for tapped in (True, False, True, False):
        batches = [(normal(8, 5), normal(8, 2, seed=1))]
        _ = functions.run_tapped(batches) if tapped else functions.run(iter(batches))

    assert functions.num_traces == 2


@pytest.mark.slow
def test_an_optimizer_has_the_variables_that_a_step_of_its_own_makes():
    found = []
    for is_watched in (False, True):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model = mlp().model
        if is_watched:
            Functions(model)
        model.train_on_batch(normal(8, 5), normal(8, 2, seed=1))
        found.append([(v.path, v.numpy().tolist()) for v in model.optimizer.variables])

    assert found[0] == found[1]
