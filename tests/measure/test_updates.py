"""What one optimizer step would change, against the step that fit's optimizer really takes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

from gradscope.measure.updates import updates


def excluding(make):
    """An optimizer whose weight decay leaves biases alone."""

    def build():
        optimizer = make()
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        return optimizer

    return build


def schedule():
    return optimizers.schedules.ExponentialDecay(0.1, decay_steps=2, decay_rate=0.5)


def muon():
    """Keras 3.12 has one that fails at its first step with TensorFlow."""
    variable = keras.Variable(np.ones((2, 2), "float32"))
    try:
        optimizers.Muon().apply_gradients([(tf.ones((2, 2)), variable)])
    except AttributeError:
        pytest.skip("Keras's own Muon takes no step")
    return optimizers.Muon(0.01, exclude_layers=["out"])


OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.01),
    "amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "adamw without biases": excluding(lambda: optimizers.AdamW(0.01, weight_decay=0.1)),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adagrad": lambda: optimizers.Adagrad(0.01),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "adamax": lambda: optimizers.Adamax(0.01),
    "nadam": lambda: optimizers.Nadam(0.01),
    "adafactor": lambda: optimizers.Adafactor(0.01),
    "ftrl": lambda: optimizers.Ftrl(0.01),
    "lion": lambda: optimizers.Lion(0.01, weight_decay=0.1),
    "lamb": lambda: optimizers.Lamb(0.01),
    "muon": muon,
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.01),
    "global_clipnorm": lambda: optimizers.Adam(0.01, global_clipnorm=0.01),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.003),
    "schedule": lambda: optimizers.Adam(schedule()),
    "moving average": lambda: optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=None),
    "loss scale": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01)),
}
# A step is float32 arithmetic on weights near 1: its last digit is 6e-8 of the weight.
ABS = 5e-7


def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "tanh", bias_initializer="ones"),
            layers.BatchNormalization(),
            layers.Dense(3, bias_initializer="ones", name="out"),
        ]
    )


def fake_gradients(model: keras.Model, seed: int = 0) -> list[tf.Tensor]:
    rng = np.random.default_rng(seed)
    return [
        tf.constant(0.02 * rng.standard_normal(v.shape), "float32")
        for v in model.trainable_variables
    ]


def plain(optimizer):
    inner = isinstance(optimizer, optimizers.LossScaleOptimizer)
    return optimizer.inner_optimizer if inner else optimizer


def trained(make, num_steps: int) -> tuple[keras.Model, object]:
    """A model and its optimizer after some real steps."""
    model, optimizer = network(), make()
    for step in range(num_steps):
        plain(optimizer).apply_gradients(
            zip(fake_gradients(model, 10 + step), model.trainable_variables, strict=True)
        )
    return model, optimizer


def real_change(make, num_steps: int) -> list[np.ndarray]:
    model, optimizer = trained(make, num_steps)
    before = [v.numpy().copy() for v in model.trainable_variables]
    plain(optimizer).apply_gradients(
        zip(fake_gradients(model), model.trainable_variables, strict=True)
    )
    after = [v.numpy().copy() for v in model.trainable_variables]
    return [b - a for a, b in zip(before, after, strict=True)]


def predicted_change(make, num_steps: int) -> dict[int, np.ndarray]:
    model, optimizer = trained(make, num_steps)
    return dict(updates(optimizer, model.trainable_variables, fake_gradients(model)))


@pytest.mark.parametrize("num_steps", [0, 3], ids=["new", "after three steps"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_change_is_that_of_the_real_step(name, num_steps):
    found = predicted_change(OPTIMIZERS[name], num_steps)
    expected = real_change(OPTIMIZERS[name], num_steps)

    assert sorted(found) == list(range(len(expected)))
    for number, change in enumerate(expected):
        assert np.abs(change).max() > 0
        np.testing.assert_allclose(found[number], change, rtol=1e-4, atol=ABS)


@pytest.mark.parametrize("num_steps", [0, 3], ids=["new", "after three steps"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizer_is_left_alone(name, num_steps):
    model, optimizer = trained(OPTIMIZERS[name], num_steps)
    held = [optimizer, plain(optimizer)]
    attributes = [dict(vars(o)) for o in held]
    values = [v.numpy().copy() for v in optimizer.variables]
    list(updates(optimizer, model.trainable_variables, fake_gradients(model)))

    for one, before in zip(held, attributes, strict=True):
        assert vars(one).keys() == before.keys()
        assert all(vars(one)[name] is value for name, value in before.items())
    for variable, value in zip(optimizer.variables, values, strict=True):
        np.testing.assert_array_equal(variable.numpy().copy(), value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_weights_are_left_alone(name):
    model, optimizer = trained(OPTIMIZERS[name], 1)
    before = [v.numpy().copy() for v in model.variables]
    list(updates(optimizer, model.trainable_variables, fake_gradients(model)))

    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy().copy(), value)


@pytest.mark.parametrize("num_steps", [0, 2], ids=["new", "built"])
def test_variables_without_gradient_have_no_change(num_steps):
    model, optimizer = trained(OPTIMIZERS["adam"], num_steps)
    gradients = fake_gradients(model)
    gradients[1] = None
    found = dict(updates(optimizer, model.trainable_variables, gradients))

    assert sorted(found) == [i for i in range(len(gradients)) if i != 1]


def test_many_small_weights_are_split_as_they_were_joined(monkeypatch):
    monkeypatch.setattr("gradscope.measure.updates._BUCKET", 30)
    found = predicted_change(OPTIMIZERS["adam"], 0)

    for number, change in enumerate(real_change(OPTIMIZERS["adam"], 0)):
        np.testing.assert_allclose(found[number], change, rtol=1e-4, atol=ABS)


def test_sparse_gradients():
    embedding = layers.Embedding(5, 3)
    embedding.build()
    gradient = tf.IndexedSlices(tf.ones((2, 3)), tf.constant([1, 4]), (5, 3))
    ((_, change),) = updates(optimizers.SGD(0.1), embedding.trainable_variables, [gradient])

    expected = np.zeros((5, 3))
    expected[[1, 4]] = -0.1
    np.testing.assert_allclose(change, expected, atol=1e-7)


def test_the_schedule_is_read_at_the_optimizers_own_step():
    """After 4 steps ExponentialDecay(0.1, 2, 0.5) is at 0.025."""

    def make():
        return optimizers.SGD(schedule())

    model, optimizer = trained(make, 4)
    gradients = fake_gradients(model)
    found = dict(updates(optimizer, model.trainable_variables, gradients))

    np.testing.assert_allclose(found[0], -0.025 * gradients[0].numpy(), rtol=1e-3, atol=ABS)


# ---- large variables, of which elementwise optimizers see every 7th (11th) entry


def large(shape=(512, 600)):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input(shape[:1]), layers.Dense(shape[1])])
    rng = np.random.default_rng(0)
    # Units with gradients of very different size, as real ones have.
    scale = np.exp(rng.standard_normal(shape[1]))
    gradient = tf.constant(scale * rng.standard_normal(shape), "float32")
    return model, [gradient, tf.zeros(shape[1])]


def change_of_kernel(model, optimizer, gradients):
    before = model.layers[0].kernel.numpy()
    optimizer.apply(gradients, model.trainable_variables)
    return model.layers[0].kernel.numpy() - before


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "rmsprop", "global_clipnorm"])
@pytest.mark.parametrize("trained", [False, True])
def test_norm_of_a_sampled_update_is_that_of_the_real_one(name, trained):
    model, gradients = large()
    optimizer = OPTIMIZERS[name]()
    if trained:
        for factor in (1.0, -0.3):
            optimizer.apply([factor * g for g in gradients], model.trainable_variables)
    change = dict(updates(optimizer, model.trainable_variables, gradients))[0]
    expected = change_of_kernel(model, optimizer, gradients)

    assert change.shape == (-(-expected.size // 7),)
    np.testing.assert_allclose(change, expected.reshape(-1)[::7], atol=ABS)
    rms = np.sqrt(np.mean(np.square(expected)))
    assert np.sqrt(np.mean(np.square(change))) == pytest.approx(rms, rel=0.02)


def test_a_sampled_update_visits_all_units_where_their_number_divides_by_the_stride():
    model, _ = large((512, 700))
    grows = tf.ones((512, 1)) * tf.range(1.0, 701.0)
    change = dict(updates(optimizers.SGD(1e-3), model.trainable_variables, [grows, tf.zeros(700)]))[
        0
    ]

    assert len(np.unique(np.round(change, 4))) == 700


def test_an_optimizer_that_looks_at_whole_kernels_gets_the_whole_kernel():
    model, gradients = large()
    optimizer = optimizers.Adafactor(0.01)
    change = dict(updates(optimizer, model.trainable_variables, gradients))[0]

    np.testing.assert_allclose(change, change_of_kernel(model, optimizer, gradients), atol=ABS)
