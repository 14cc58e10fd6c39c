"""analyze: what it takes, what it finds, on what it stays silent, and how it refuses."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope import CannotExamineError, GradscopeError, UnreadableError, UsageError
from tests.models import classes, mlp, normal, several_outputs


def sequential(*stack, shape=(8,), loss="mse", optimizer="adam") -> keras.Model:
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(optimizer, loss)
    return model


def deep_sigmoid(depth: int = 20) -> keras.Model:
    return sequential(*[layers.Dense(16, "sigmoid") for _ in range(depth)], layers.Dense(1))


def loud(report: gradscope.Report) -> list[str]:
    return [f"{f.symptom}: {f.message}" for f in report.findings if f.severity != "info"]


def symptoms_of(report: gradscope.Report) -> set[str]:
    return {f.symptom for f in report.findings if f.severity != "info"}


# ---- what it takes


def arrays() -> tuple[np.ndarray, np.ndarray]:
    return normal(64, 8), normal(64, 1, seed=1)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, number):
        rows = slice(16 * number, 16 * (number + 1))
        return arrays()[0][rows], arrays()[1][rows]


def generator():
    for number in range(10):
        yield Batches()[number % 4]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: arrays(), "arrays"),
        (lambda: [tf.constant(a) for a in arrays()], "arrays"),
        (lambda: [a.astype("float64") for a in arrays()], "arrays"),
        (lambda: (tf.data.Dataset.from_tensor_slices(arrays()).batch(16),), "tf.data.Dataset"),
        (lambda: (Batches(),), "PyDataset"),
        (lambda: (generator(),), "generator"),
    ],
    ids=["arrays", "tensors", "float64", "Dataset", "PyDataset", "generator"],
)
def test_every_kind_of_data(make, kind, seeded):
    report = gradscope.analyze(
        sequential(layers.Dense(4, "relu"), layers.Dense(1)), *make(), batch_size=16
    )

    assert report.data.kind == kind
    assert (report.data.num_samples, report.data.num_batches) == (64, 4)
    assert report.loss.value > 0


def test_data_of_one_order_give_the_same_measurements(seeded):
    """All 64 samples are read either way, so the sums agree to rounding."""
    model = sequential(layers.Dense(4, "tanh"), layers.Dense(1))
    ways = [arrays(), (tf.data.Dataset.from_tensor_slices(arrays()).batch(16),), (Batches(),)]
    losses = [gradscope.analyze(model, *way, batch_size=16).loss.value for way in ways]

    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_inputs_and_labels_by_name(seeded):
    case = several_outputs()
    x = {"left": normal(32, 4), "right": normal(32, 3)}
    y = {"value": normal(32, 1), "kind": classes(32, 3)}

    assert gradscope.analyze(case.model, x, y).data.num_samples == 32


def test_inputs_as_a_list(seeded):
    a, b = keras.Input((4,)), keras.Input((3,))
    model = keras.Model([a, b], layers.Dense(1)(layers.Concatenate()([a, b])))
    model.compile("sgd", "mse")
    report = gradscope.analyze(model, [normal(32, 4), normal(32, 3)], normal(32, 1))

    assert report.data.num_samples == 32


def test_fewer_samples_than_asked_for(seeded):
    report = gradscope.analyze(sequential(layers.Dense(1)), normal(5, 8), normal(5, 1))

    assert (report.data.num_samples, report.data.num_batches) == (5, 1)


def test_a_model_that_is_not_built_is_built_from_the_data(seeded):
    model = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(1)])
    model.compile("sgd", "mse")
    report = gradscope.analyze(model, *arrays())

    assert model.count_params() == 8 * 4 + 4 + 4 + 1
    assert report.model.num_params == model.count_params()


def test_without_data_inputs_are_made_up(seeded):
    report = gradscope.analyze(deep_sigmoid(3))

    assert report.data.kind == "synthetic"
    reasons = {c.symptom: c.reason for c in report.checks if c.status == "not examined"}
    assert "made up" in reasons["dead-relu"]


def test_without_labels_they_are_made_up_and_it_is_said(seeded):
    report = gradscope.analyze(sequential(layers.Dense(1)), normal(32, 8))

    assert report.data.note == "no labels were given; they are made up"


def test_a_model_that_is_not_compiled(seeded):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3, "softmax")])
    report = gradscope.analyze(model, normal(32, 8), classes(32, 3))

    assert report.loss.name == "sparse_categorical_crossentropy"
    assert "not compiled" in report.loss.note


def test_another_loss_can_be_asked_for(seeded):
    report = gradscope.analyze(sequential(layers.Dense(1)), *arrays(), loss="mae")

    assert report.loss.name == "mae"


# ---- what it finds


def test_a_deep_sigmoid_net(seeded):
    report = gradscope.analyze(deep_sigmoid(), *arrays())

    assert "vanishing-gradient" in symptoms_of(report)


def test_every_symptom_ends_as_found_clean_or_not_examined(seeded):
    from gradscope.symptoms import registry

    report = gradscope.analyze(deep_sigmoid(3), *arrays())

    assert [c.symptom for c in report.checks] == sorted(registry())
    assert all((c.reason is not None) == (c.status == "not examined") for c in report.checks)


def test_a_zero_output_kernel_is_no_finding(seeded):
    """It makes every inner gradient zero at the start, and is gone after one step."""
    hidden = [layers.Dense(16, "relu", kernel_initializer="he_normal") for _ in range(3)]
    model = sequential(*hidden, layers.Dense(1, kernel_initializer="zeros"))
    report = gradscope.analyze(model, *arrays())

    assert loud(report) == []
    assert report.steps > 0


def test_what_a_zero_output_kernel_hides_is_found(seeded):
    hidden = [layers.Dense(16, "sigmoid") for _ in range(20)]
    model = sequential(*hidden, layers.Dense(1, kernel_initializer="zeros"))
    report = gradscope.analyze(model, *arrays())
    (finding,) = [f for f in report.findings if f.symptom == "vanishing-gradient"]

    assert finding.persistence == "stays"
    assert finding.severity == "error"


def test_a_tiny_start_below_relu_is_found(seeded):
    """All gradients are near 1e-11: the ratio of first to last alone would not show it."""
    tiny = keras.initializers.RandomUniform(-0.01, 0.01, seed=1)
    hidden = [layers.Dense(16, "relu", kernel_initializer=tiny) for _ in range(8)]
    report = gradscope.analyze(sequential(*hidden, layers.Dense(1)), *arrays())

    assert "mismatched-initialization" in symptoms_of(report)


def test_nan_in_the_data_blocks_all_other_symptoms(seeded):
    x, y = arrays()
    x[3, 2] = np.nan
    report = gradscope.analyze(deep_sigmoid(), x, y)

    assert symptoms_of(report) == {"non-finite-values"}
    assert report.loss.value is None


def test_a_recurrent_net_without_gates(seeded):
    shrinking = keras.initializers.Orthogonal(gain=0.5, seed=1)
    rnn = layers.SimpleRNN(8, recurrent_initializer=shrinking)
    model = sequential(rnn, layers.Dense(1), shape=(40, 3))
    report = gradscope.analyze(model, normal(64, 40, 3), normal(64, 1))

    assert "vanishing-through-time" in symptoms_of(report)


def test_weights_cut_off_from_the_loss(seeded):
    model = sequential(
        layers.Dense(4), layers.Lambda(lambda t: tf.round(t) * 1.0), layers.Dense(1)
    )
    report = gradscope.analyze(model, *arrays())
    (finding,) = [f for f in report.findings if f.symptom == "disconnected-layer"]

    assert finding.culprits == (f"{model.layers[0].name}:0",)


def test_dead_units(seeded):
    dead = layers.Dense(16, "relu", bias_initializer=keras.initializers.Constant(-50.0))
    report = gradscope.analyze(sequential(dead, layers.Dense(1)), *arrays())

    assert "dead-relu" in symptoms_of(report)


def test_saturated_units(seeded):
    model = sequential(layers.Dense(16, "tanh"), layers.Dense(16, "tanh"), layers.Dense(1))
    x, y = arrays()
    report = gradscope.analyze(model, 1000 * x, y)

    assert "saturated-activation" in symptoms_of(report)


# ---- where it stays silent


def converged():
    model = sequential(layers.Dense(8, "relu"), layers.Dense(8, "relu"), layers.Dense(1))
    x = normal(128, 8)
    return model, x, model.predict(x, verbose=0) + 1e-6 * normal(128, 1, seed=2)


def sparse_relu():
    """BatchNormalization shifts by -0.84: 80 % of a normal variable lies below zero then."""
    stack = []
    for _ in range(6):
        shift = layers.BatchNormalization(beta_initializer=keras.initializers.Constant(-0.84))
        stack += [layers.Dense(64, use_bias=False), shift, layers.ReLU()]
    return sequential(*stack, layers.Dense(1)), normal(128, 8), normal(128, 1, seed=1)


@keras.saving.register_keras_serializable("tests")
class Scale(layers.Layer):
    """Multiplies by one number that starts at zero (ReZero, LayerScale)."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="zeros")

    def call(self, x):
        return x * self.scale


def rezero():
    x = keras.Input((8,))
    h = layers.Dense(16)(x)
    for _ in range(12):
        branch = layers.Dense(16, "relu", kernel_initializer="he_normal")(h)
        h = layers.Add()([h, Scale()(branch)])
    model = keras.Model(x, layers.Dense(1)(h))
    model.compile("adam", "mse")
    return model, normal(128, 8), normal(128, 1, seed=1)


def frozen_backbone():
    backbone = [
        layers.Dense(32, "relu", kernel_initializer="he_normal", trainable=False)
        for _ in range(8)
    ]
    model = sequential(*backbone, layers.Dense(3, "softmax"), loss="sparse_categorical_crossentropy")
    return model, normal(128, 8), classes(128, 3)


def untouched_embedding_rows():
    model = sequential(
        layers.Embedding(5000, 16),
        layers.GlobalAveragePooling1D(),
        layers.Dense(16, "relu"),
        layers.Dense(1, "sigmoid"),
        shape=(12,),
        loss="binary_crossentropy",
    )
    return model, classes(128 * 12, 200).reshape(128, 12), classes(128, 2)[:, None]


def masked_lstm():
    model = sequential(
        layers.Embedding(50, 8, mask_zero=True), layers.LSTM(16), layers.Dense(1), shape=(20,)
    )
    x = 1 + classes(128 * 20, 49).reshape(128, 20)
    x[:64, 8:] = 0
    return model, x, normal(128, 1)


def selu():
    hidden = [layers.Dense(64, "selu", kernel_initializer="lecun_normal") for _ in range(20)]
    return sequential(*hidden, layers.Dense(1)), normal(128, 8), normal(128, 1, seed=1)


def deep_resnet():
    x = keras.Input((8, 8, 3))
    h = layers.Conv2D(8, 3, padding="same")(x)
    for _ in range(16):
        b = h
        for _ in range(2):
            b = layers.ReLU()(layers.BatchNormalization()(b))
            b = layers.Conv2D(8, 3, padding="same", kernel_initializer="he_normal")(b)
        h = layers.Add()([h, b])
    h = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(h)))
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, normal(64, 8, 8, 3), classes(64, 3)


def transformer():
    x = keras.Input((6, 16))
    h = x
    for _ in range(8):
        n = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.MultiHeadAttention(2, 8)(n, n)])
        n = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.Dense(16)(layers.Dense(32, "gelu")(n))])
    h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, normal(64, 6, 16), classes(64, 3)


def logistic_regression():
    model = sequential(layers.Dense(1, "sigmoid"), loss="binary_crossentropy")
    return model, normal(128, 8), classes(128, 2)[:, None]


def large_targets():
    model = sequential(
        *[layers.Dense(32, "relu", kernel_initializer="he_normal") for _ in range(4)],
        layers.Dense(1),
    )
    return model, normal(128, 8), 1e5 * normal(128, 1, seed=1)


def long_sequence(kind):
    model = sequential(kind(16), layers.Dense(1), shape=(100, 3))
    return model, normal(64, 100, 3), normal(64, 1, seed=1)


def plain_cnn():
    stack = []
    for filters in (8, 16, 16):
        stack += [layers.Conv2D(filters, 3, activation="relu", padding="same"),
                  layers.MaxPooling2D()]
    model = sequential(*stack, layers.Flatten(), layers.Dense(3, "softmax"), shape=(16, 16, 3),
                       loss="sparse_categorical_crossentropy")  # fmt: skip
    return model, normal(64, 16, 16, 3), classes(64, 3)


def autoencoder():
    widths = (32, 16, 2, 16, 32)
    return (
        sequential(*[layers.Dense(w, "tanh") for w in widths], layers.Dense(8)),
        normal(128, 8),
        normal(128, 8),
    )


HEALTHY = {
    "autoencoder": autoencoder,
    "converged": converged,
    "deep resnet": deep_resnet,
    "frozen backbone": frozen_backbone,
    "large targets": large_targets,
    "logistic regression": logistic_regression,
    "long gru": lambda: long_sequence(layers.GRU),
    "long lstm": lambda: long_sequence(layers.LSTM),
    "masked lstm": masked_lstm,
    "plain cnn": plain_cnn,
    "rezero": rezero,
    "selu": selu,
    "sparse relu": sparse_relu,
    "transformer": transformer,
    "untouched embedding rows": untouched_embedding_rows,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_silent_on_healthy_models(name, seeded):
    model, x, y = HEALTHY[name]()

    assert loud(gradscope.analyze(model, x, y)) == []


def test_the_sparse_relu_example_is_as_sparse_as_it_claims(seeded):
    model, x, y = sparse_relu()
    rows = gradscope.analyze(model, x, y).layers
    sparsity = [r.output.zero_fraction for r in rows if r.class_ == "ReLU"]

    assert np.mean(sparsity) == pytest.approx(0.8, abs=0.1)


# ---- the same again


def test_one_seed_gives_one_report(seeded):
    x, y = normal(256, 8), normal(256, 1, seed=1)
    model = deep_sigmoid(5)

    first = gradscope.analyze(model, x, y, seed=3).to_json()
    assert gradscope.analyze(model, x, y, seed=3).to_json() == first


def test_another_seed_reads_other_samples(seeded):
    x, y = normal(256, 8), normal(256, 1, seed=1)
    model = deep_sigmoid(2)
    losses = {gradscope.analyze(model, x, y, seed=s).loss.value for s in (0, 1)}

    assert len(losses) == 2


def test_made_up_inputs_depend_on_the_seed_only(seeded):
    model = deep_sigmoid(3)
    first, second, other = (gradscope.analyze(model, seed=s).to_json() for s in (0, 0, 1))

    assert first == second
    assert first != other


def test_report_is_strict_json(seeded):
    text = gradscope.analyze(deep_sigmoid(2), *arrays()).to_json()

    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))


def test_select(seeded):
    report = gradscope.analyze(deep_sigmoid(), *arrays(), select=["dead-relu"])

    assert [c.symptom for c in report.checks] == ["dead-relu"]
    assert report.findings == ()


def test_ignore(seeded):
    report = gradscope.analyze(deep_sigmoid(), *arrays(), ignore=["vanishing-gradient"])

    assert "vanishing-gradient" not in {c.symptom for c in report.checks}
    assert "vanishing-gradient" not in {f.symptom for f in report.findings}


# ---- how it refuses


def refusal(kind: type[GradscopeError], *args, **kwargs) -> str:
    with pytest.raises(kind) as caught:
        gradscope.analyze(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert "\x1b" not in message
    return message


def test_something_else_than_a_model():
    assert "Received str" in refusal(UsageError, "model.keras")


def test_a_layer_is_no_model():
    assert "Expected a keras.Model" in refusal(UsageError, layers.Dense(1))


@pytest.mark.parametrize("name", ["batch_size", "num_batches"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4"])
def test_a_size_that_cannot_be(name, value):
    assert f"{name} must be" in refusal(UsageError, mlp().model, *arrays(), **{name: value})


@pytest.mark.parametrize("name", ["select", "ignore"])
def test_an_unknown_symptom_names_the_nearest(name):
    message = refusal(UsageError, mlp().model, *arrays(), **{name: ["vanishing-gradients"]})

    assert "Did you mean: vanishing-gradient" in message


def test_an_unknown_loss():
    message = refusal(UsageError, sequential(layers.Dense(1)), *arrays(), loss="mean_sqared")

    assert "Unknown loss 'mean_sqared'" in message


def test_no_samples():
    model = sequential(layers.Dense(1))

    assert "empty" in refusal(UnreadableError, model, np.zeros((0, 8)), np.zeros((0, 1)))


def test_an_empty_generator():
    assert "empty" in refusal(UnreadableError, sequential(layers.Dense(1)), iter([]))


def test_data_of_no_known_kind():
    assert "object" in refusal(UnreadableError, sequential(layers.Dense(1)), object())


def test_inputs_of_another_shape():
    message = refusal(GradscopeError, sequential(layers.Dense(1)), normal(32, 5), normal(32, 1))

    assert "5" in message
    assert "8" in message


def test_labels_of_another_length():
    message = refusal(GradscopeError, sequential(layers.Dense(1)), normal(32, 8), normal(31, 1))

    assert "31" in message


def test_nothing_to_train():
    model = sequential(layers.Dense(1, trainable=False))

    assert "no trainable weights" in refusal(CannotExamineError, model, *arrays())


def test_a_model_that_does_not_say_what_it_takes():
    class Silent(keras.Model):
        def call(self, x):
            return x

    assert "Pass data" in refusal(CannotExamineError, Silent())


def test_a_model_that_fails_in_its_call():
    class Broken(layers.Layer):
        def call(self, x):
            if hasattr(x, "numpy"):
                raise ValueError("first line\nsecond line")
            return x

    message = refusal(CannotExamineError, sequential(layers.Dense(4), Broken()), *arrays())

    assert "could not be run on the data" in message


def test_a_train_step_of_its_own():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            raise AssertionError("gradscope does not call this")

    model = Own()
    model.compile("sgd")
    assert "train_step" in refusal(CannotExamineError, model, *arrays())
