"""Second derivatives that are zero everywhere, in losses that are made of derivatives."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.measure import curvature
from gradscope.records import FlatCurvature
from tests.support.by_hand import normal
from tests.support.snapshot import Snapshot

X = normal(64, 1)


def network(*hidden) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((1,)), *hidden, layers.Dense(1, name="u")])


def dense(activation) -> keras.Model:
    return network(*(layers.Dense(16, activation, name=f"h{n}") for n in (1, 2)))


def slope(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x)


def bend(function, x):
    return slope(lambda x: slope(function, x), x)


def squared(value):
    return tf.reduce_mean(tf.square(value))


class Own(keras.Model):
    """A network that is trained by `loss(net, x)`, in a step of its own."""

    def __init__(self, net, loss):
        super().__init__()
        self.net, self.loss_of = net, loss

    def call(self, x):
        return self.net(x)

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            loss = self.loss_of(self.net, x)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


def report_of(model, y=None):
    model.compile("sgd", "mse")
    model.build((None, 1))
    return gradscope.analyze(model, X, y)


def residual(net, x):
    """Of u'' = -u."""
    return squared(bend(net, x) + net(x))


def found_in(net, loss=residual) -> FlatCurvature | None:
    return report_of(Own(net, loss)).flat_curvature


def names(ids) -> list[str]:
    return [id.rpartition("/")[2] for id in ids]


@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu"])
def test_a_differential_equation_by_pieces_of_lines(activation):
    flat = found_in(dense(activation))

    assert flat is not None
    assert flat.activation == activation
    assert names(flat.layers) == ["h1:0", "h2:0"]


def test_activations_that_are_layers():
    net = network(layers.Dense(16), layers.Activation("relu", name="on"), layers.Dense(16),
                  layers.ReLU(name="off"))  # fmt: skip
    flat = found_in(net)

    assert flat is not None
    assert names(flat.layers) == ["on:0", "off:0"]


def test_an_activation_in_code_has_no_layer():
    net = network(layers.Dense(16, name="h1"))
    flat = found_in(net, lambda net, x: residual(lambda x: tf.nn.relu(net(x)), x))

    assert flat == FlatCurvature("relu", ())


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("maximum", lambda z: tf.maximum(z, 0.1 * z)),
        ("where", lambda z: tf.where(z > 0.0, z, 0.1 * z)),
        ("abs", tf.abs),
    ],
)
def test_lines_that_are_put_together_in_code(name, function):
    """What they leave in the slope has no gradient at all, which a step takes as 0."""

    def bend_or_zero(net, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            first = slope(lambda x: net.layers[-1](function(net.layers[0](x))), x)
        second = tape.gradient(first, x, unconnected_gradients="zero")
        return squared(second + net(x))

    flat = found_in(network(layers.Dense(16, name="h1")), bend_or_zero)
    assert flat == FlatCurvature(name, ())


def test_a_jacobian_can_be_examined():
    """TensorFlow traces it, so taps see tensors without entries."""

    def by_jacobian(net, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = net(x)
        return squared(tape.batch_jacobian(value, x)[:, :, 0] + value)

    report = report_of(Own(dense("tanh"), by_jacobian))
    assert report.loss.value is not None


class Residual(keras.Model):
    """Its call gives the residual itself, so that any loss will do."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def call(self, x):
        return bend(self.net, x) + self.net(x)


class ByLoss(keras.Model):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def call(self, x):
        return self.net(x)

    def compute_loss(self, x=None, *_, **__):
        return residual(self.net, x)


@pytest.mark.parametrize("kind", [Residual, ByLoss])
def test_tapes_in_the_call_and_in_the_loss(kind):
    sick, healthy = (report_of(kind(dense(name)), 0.0 * X) for name in ("relu", "tanh"))

    assert sick.flat_curvature is not None
    assert healthy.flat_curvature is None


def first_order(net, x):
    return squared(slope(net, x) + net(x))


def penalty(net, x):
    """Of WGAN-GP: the gradient's norm is to be 1."""
    return tf.reduce_mean(net(x)) + squared(tf.norm(slope(net, x), axis=-1) - 1.0)


def curved_product(net, x):
    """(x * u)'' is 2 * u', which ReLU has."""
    return squared(bend(lambda x: x * net(x), x) + net(x))


def adapted(net, x):
    """Of MAML: the loss after a step that the loss looks back through."""
    with tf.GradientTape() as tape:
        before = squared(net(x) - x)
    steps = tape.gradient(before, net.trainable_weights)
    with tf.GradientTape() as tape:
        tape.watch(steps)
        after = squared(net(x) - x) + tf.add_n([squared(step) for step in steps])
    moved = tape.gradient(after, steps)
    return after + tf.add_n([squared(m) for m in moved])


HEALTHY = {
    "tanh": (lambda: dense("tanh"), residual),
    "swish": (lambda: dense("swish"), residual),
    "smooth behind relu": (
        lambda: network(layers.Dense(16, "relu"), layers.Dense(16, "tanh")),
        residual,
    ),
    "first order": (lambda: dense("relu"), first_order),
    "gradient penalty": (lambda: dense("relu"), penalty),
    "product": (lambda: dense("relu"), curved_product),
    "steps by weights": (lambda: dense("relu"), adapted),
    "plain": (lambda: dense("relu"), lambda net, x: squared(net(x) - x)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_look_alikes_are_none(name):
    make, loss = HEALTHY[name]

    report = report_of(Own(make(), loss))

    assert report.flat_curvature is None
    assert {c.status for c in report.checks if c.symptom == "disconnected-layer"} == {"clean"}


class Curious(Own):
    """Looks at the second derivative once the step is done."""

    def train_step(self, data):
        logs = super().train_step(data)
        x = data[0] if isinstance(data, tuple) else data
        return {**logs, "bend": squared(bend(self.net, x))}


def test_what_is_only_looked_at_is_no_part_of_the_loss():
    assert report_of(Curious(dense("relu"), first_order)).flat_curvature is None


class Critic(Own):
    """Two updates a step, as a GAN's; the penalty is in the first."""

    def train_step(self, data):
        super().train_step(data)
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            loss = squared(self.net(x))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


def test_a_penalty_in_the_first_of_two_updates():
    assert report_of(Critic(dense("relu"), penalty)).flat_curvature is None
    assert report_of(Critic(dense("relu"), residual)).flat_curvature is not None


def test_models_that_ask_for_one_gradient_are_not_run_again(monkeypatch):
    monkeypatch.delattr(curvature, "Watch")

    report = report_of(Own(dense("relu"), HEALTHY["plain"][1]))

    assert report.curvature_unmeasured is None


def test_a_pass_that_fails_is_told_and_nothing_is_called_clean(monkeypatch):
    monkeypatch.delattr(curvature, "Watch")

    report = report_of(Own(dense("relu"), residual))

    [check] = [c for c in report.checks if c.symptom == "disconnected-layer"]
    assert check.status == "not examined"
    assert "following them failed: AttributeError" in check.reason


def test_the_patient_is_left_as_it_was():
    model = Own(dense("relu"), residual)
    model.compile("sgd", "mse")
    model.build((None, 1))
    before = Snapshot(model)

    assert gradscope.analyze(model, X).flat_curvature is not None
    assert before.differences(Snapshot(model)) == []


def test_the_finding_names_the_layers_and_a_smooth_activation():
    model = Own(dense("relu"), residual)
    report = report_of(model)
    finding = report.findings[0]

    assert (finding.symptom, finding.severity) == ("disconnected-layer", "error")
    assert names(finding.culprits) == ["h1:0", "h2:0"]
    assert "use a smooth activation such as tanh" in finding.message.lower()
    assert set(report.prescriptions[0].parameters["activations"].values()) == {"tanh"}
