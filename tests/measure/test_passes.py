"""Tapped passes against a plain GradientTape over a forward pass written out by hand."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gradscope.records import LayerProfile
from tests.support.by_hand import normal, two_batches
from tests.support.models import ZOO, Case, mixed_precision, mlp
from tests.support.reference import Reference, assert_gradients_match, measured, pooled

REL = 1e-5


@pytest.mark.parametrize("name", ZOO)
def test_loss(name, seeded):
    case = ZOO[name]()
    found = measured(case)

    assert found.loss.value == pytest.approx(np.mean(Reference(case).losses), rel=REL)


@pytest.mark.parametrize("name", ZOO)
def test_kernel_gradients(name, seeded):
    case = ZOO[name]()
    found = {w.path: w for layer in measured(case).layers for w in layer.weights}
    reference = Reference(case)

    for variable, parts in zip(case.model.trainable_weights, reference.kernels, strict=True):
        l2_norm, rms = pooled(parts)
        gradient = found[variable.path].gradient
        # A bias in front of a normalisation (or a softmax) has gradient 0 up to rounding.
        assert gradient.l2_norm == pytest.approx(l2_norm, rel=REL, abs=1e-7), variable.path
        assert gradient.rms == pytest.approx(rms, rel=REL, abs=1e-7), variable.path


@pytest.mark.parametrize("name", ZOO)
def test_gradients_between_layers(name, seeded):
    case = ZOO[name]()

    assert_gradients_match(measured(case), Reference(case), REL)


@pytest.mark.parametrize("name", ZOO)
def test_every_gradient_reported_is_in_the_reference(name, seeded):
    """No row claims a gradient at a place where the loss sends none."""
    case = ZOO[name]()
    reference = Reference(case)
    noted = {row for row, _ in reference.tensors}

    for layer in measured(case).layers:
        if layer.id in noted and layer.activation_gradient is not None:
            assert (layer.id, "activation") in reference.tensors, layer.id


def test_mixed_precision_gradients_are_unscaled(seeded):
    case = mixed_precision()
    found = measured(case)

    # float16 keeps 11 bits; sums over a batch of 12 may differ in the last.
    assert_gradients_match(found, Reference(case, scale=1024.0), 2e-3)
    assert found.loss.value == pytest.approx(np.mean(Reference(case).losses), rel=2e-3)


@pytest.mark.slow
def test_mixed_precision_scale_is_halved_until_gradients_are_finite(seeded):
    case = mixed_precision()
    case.model.optimizer.initial_scale = 2.0**40
    kernel = measured(case).layers[0].kernel_gradient

    assert kernel.finite_fraction == 1.0
    assert kernel.rms == pytest.approx(pooled(Reference(case, 1024.0).kernels[0])[1], rel=5e-3)


def test_a_shared_layer_has_a_row_a_call(seeded):
    rows = [layer.id for layer in measured(ZOO["shared_layer"]()).layers]

    assert [row for row in rows if row.startswith("twin")] == ["twin:0", "twin:1"]


def test_a_shared_inner_model_has_a_row_a_call(seeded):
    rows = {layer.id for layer in measured(ZOO["nested"]()).layers}

    assert {"inner/a:0", "inner/b:0", "inner/a:1", "inner/b:1"} <= rows


def test_inputs_of_a_row_are_the_rows_below(seeded):
    rows = {layer.id: layer for layer in measured(ZOO["residual_cnn"]()).layers}

    assert rows["conv_1:0"].inputs == ()
    assert set(rows["add:0"].inputs) == {"conv_1:0", "norm:0"}
    assert rows["norm:0"].inputs == ("conv_2:0",)


def test_depth_takes_the_shortest_way(seeded):
    rows = {layer.id: layer.depth for layer in measured(ZOO["residual_cnn"]()).layers}

    assert rows["conv_1:0"] == 1
    assert rows["norm:0"] == 3
    assert rows["add:0"] == 2


def test_forward_statistics(seeded):
    case = mlp(1)
    layer = measured(case).layers[0]
    x = np.concatenate([b.x for b in case.batches])
    dense = case.model.layers[0]
    z = x @ dense.kernel.numpy() + dense.bias.numpy()

    assert layer.input.rms == pytest.approx(np.sqrt(np.mean(x**2)), rel=REL)
    assert layer.preactivation.rms == pytest.approx(np.sqrt(np.mean(z**2)), rel=REL)
    assert layer.output.rms == pytest.approx(np.sqrt(np.mean(np.tanh(z) ** 2)), rel=REL)


def test_saturated_and_dead_units_are_counted(seeded):
    """Biases push unit 0 of ReLU below its corner for every sample and leave the others."""
    dense = layers.Dense(4, "relu", kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((3,)), dense, layers.Dense(1)])
    model.compile("sgd", "mse")
    dense.bias.assign([-1.0, 1.0, 1.0, 1.0])
    layer = measured(Case(model, two_batches(normal(8, 3), normal(8, 1)), None, None)).layers[0]

    assert (layer.num_dead, layer.num_units, layer.dead_fraction) == (1, 4, 0.25)
    assert layer.saturated_fraction == 0.25


def test_a_unit_that_fires_in_one_batch_is_not_dead(seeded):
    dense = layers.Dense(2, "relu", kernel_initializer="identity")
    model = keras.Sequential([keras.Input((2,)), dense, layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.array([[1, -1], [-1, -1]], "float32")
    layer = measured(Case(model, two_batches(x, normal(2, 1)), None, None)).layers[0]

    assert layer.num_dead == 1


def test_weights_the_loss_cannot_reach(seeded):
    x = keras.Input((4,))
    cut = layers.Lambda(tf.stop_gradient)(layers.Dense(4, name="cut")(x))
    model = keras.Model(x, layers.Dense(1, name="out")(cut))
    model.compile("sgd", "mse")
    case = Case(model, two_batches(normal(8, 4), normal(8, 1)), None, None)
    reached = {w.path: w.reached for layer in measured(case).layers for w in layer.weights}

    assert reached == {
        "cut/kernel": False,
        "cut/bias": False,
        "out/kernel": True,
        "out/bias": True,
    }


# ---- the two factors


def sigmoid_net(depth: int = 20) -> tuple[Case, list[LayerProfile]]:
    case = mlp(depth, "sigmoid")
    return case, [layer for layer in measured(case).layers if layer.path != "out"]


def test_sigmoid_never_passes_on_more_than_a_quarter(seeded):
    _, hidden = sigmoid_net()
    factors = [layer.backward.activation_factor for layer in hidden]

    assert len(factors) == 20
    assert max(factors) <= 0.25 * (1 + 1e-6)


def test_the_factors_multiply_to_the_attenuation_measured(seeded):
    _, hidden = sigmoid_net()
    product = hidden[0].backward.activation_factor
    for layer in hidden[1:]:
        product *= layer.backward.activation_factor * layer.backward.weight_factor
    attenuation = hidden[0].preactivation_gradient.rms / hidden[-1].activation_gradient.rms

    assert attenuation < 1e-12
    assert product == pytest.approx(attenuation, rel=1e-6)


def test_the_gain_is_the_product_of_both_factors(seeded):
    _, hidden = sigmoid_net(4)
    for layer in hidden[1:]:
        factors = layer.backward
        product = factors.activation_factor * factors.weight_factor
        assert product == pytest.approx(factors.gain, rel=1e-9)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_an_orthogonal_kernel_multiplies_the_gradient_by_its_scale(scale, seeded):
    """|s Q v| = s |v|, so the weight factor of s * orthogonal is s in every layer."""
    make = keras.initializers.Orthogonal(gain=scale, seed=1)
    hidden = [layers.Dense(8, kernel_initializer=make) for _ in range(6)]
    model = keras.Sequential([keras.Input((8,)), *hidden])
    model.compile("sgd", "mse")
    case = Case(model, two_batches(normal(8, 8), normal(8, 8, seed=1)), None, None)

    for layer in measured(case).layers[1:]:
        assert layer.backward.weight_factor == pytest.approx(scale, rel=1e-5)
        assert layer.backward.gain == pytest.approx(scale, rel=1e-5)


def test_a_convolution_by_one_pixel_is_its_kernel(seeded):
    make = keras.initializers.Orthogonal(gain=2.0, seed=1)
    hidden = [layers.Conv2D(4, 1, kernel_initializer=make) for _ in range(3)]
    model = keras.Sequential([keras.Input((5, 5, 4)), *hidden])
    model.compile("sgd", "mse")
    data = two_batches(normal(4, 5, 5, 4), normal(4, 5, 5, 4, seed=1))

    for layer in measured(Case(model, data, None, None)).layers[1:]:
        assert layer.backward.weight_factor == pytest.approx(2.0, rel=1e-5)


def test_inputs_with_unlike_gradients_are_taken_together(seeded):
    """A broadcast addition hands one input the gradient itself and the other its sum."""
    x = keras.Input((4,))
    wide, narrow = layers.Dense(6, name="wide")(x), layers.Dense(1, name="narrow")(x)
    model = keras.Model(x, layers.Add(name="add")([wide, narrow]))
    model.compile("sgd", "mse")
    case = Case(model, two_batches(normal(8, 4), normal(8, 6, seed=1)), None, None)
    rows = {layer.path: layer for layer in measured(case).layers}
    parts = [rows[name].activation_gradient for name in ("wide", "narrow")]

    both = math.hypot(*(p.l2_norm for p in parts)) / math.sqrt(sum(p.count for p in parts))
    assert rows["add"].input_gradient.rms == pytest.approx(both, rel=REL)
