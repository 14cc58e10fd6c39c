"""What a model changes while it runs is put back: one model for each place that it may lie in."""

from __future__ import annotations

import random
import types
from collections import OrderedDict, deque
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.backend.isolation import isolated
from tests.support.by_hand import normal


class Module(tf.Module):
    """TensorFlow wraps the containers of a module."""

    def __init__(self):
        super().__init__()
        self.count = tf.Variable(0.0)
        self.seen, self.by_name = [1], {"a": 1}

    def note(self):
        self.count.assign_add(1.0)
        self.seen.append(2)
        self.by_name["b"] = 2

    def state(self):
        return float(self.count), list(self.seen), dict(self.by_name)


class Plain:
    def __init__(self):
        self.count, self.variable, self.array = 0, tf.Variable(0.0), np.zeros(3)

    def note(self):
        self.count += 1
        self.variable.assign_add(1.0)
        self.array += 1
        self.fresh = True

    def state(self):
        return {**vars(self), "variable": float(self.variable), "array": self.array.tolist()}


@dataclass(slots=True)
class Slotted:
    count: int = 0

    def note(self):
        self.count += 1

    def state(self):
        return self.count


class Containers:
    """Subclasses and nested ones as well."""

    def __init__(self):
        self.held = [[], {}, OrderedDict(a=1, b=2), {1}, deque([1, 2], maxlen=2), ({"deep": []},)]

    def note(self):
        plain, by_name, ordered, unordered, queue, (deep,) = self.held
        plain.append(1)
        by_name["a"] = 1
        ordered.move_to_end("a")
        unordered.add(2)
        queue.append(3)
        deep["deep"].append(1)

    def state(self):
        return repr(self.held)


class Generators:
    def __init__(self):
        self.held = [tf.random.Generator.from_seed(1), np.random.default_rng(1)]
        self.held += [np.random.RandomState(1), random.Random(1)]

    def note(self):
        [generator.normal(()) for generator in self.held[:1]]
        self.held[1].normal()
        self.held[2].normal()
        self.held[3].random()

    def state(self):
        tensorflow, new, old, python = self.held
        numbers = tensorflow.state.numpy().tolist()
        return numbers, new.bit_generator.state, repr(old.get_state()), python.getstate()


class Table:
    def __init__(self):
        self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
        self.table.insert(["a"], [1])

    def note(self):
        self.table.insert(["a", "b"], [7, 8])

    def state(self):
        keys, values = self.table.export()
        return keys.numpy().tolist(), values.numpy().tolist()


GLOBAL = types.SimpleNamespace(generator=tf.random.Generator.from_seed(2), variable=tf.Variable(0))


class Global:
    """State that only the global names of a function lead to."""

    def note(self):
        GLOBAL.generator.normal(())
        GLOBAL.variable.assign_add(1)

    def state(self):
        return GLOBAL.generator.state.numpy().tolist(), int(GLOBAL.variable)


class TheGlobalGenerator:
    def __init__(self):
        tf.random.set_global_generator(tf.random.Generator.from_seed(3))

    def note(self):
        tf.random.get_global_generator().normal(())

    def state(self):
        return tf.random.get_global_generator().state.numpy().tolist()


KINDS = [Module, Plain, Slotted, Containers, Generators, Table, Global, TheGlobalGenerator]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


class Noting(layers.Layer):
    def __init__(self, noted):
        super().__init__()
        self.noted = [noted]

    def call(self, x):
        tf.py_function(lambda: self.noted[0].note(), [], [])
        return x


class Regularizer(keras.Regularizer):
    def __init__(self, noted):
        self.noted = noted

    def __call__(self, weight):
        tf.py_function(self.noted.note, [], [])
        return 0.01 * tf.reduce_sum(weight**2)


class Loss(keras.Loss):
    def __init__(self, noted):
        super().__init__()
        self.noted = noted

    def call(self, y, predicted):
        tf.py_function(self.noted.note, [], [])
        return tf.reduce_mean((y - predicted) ** 2, -1)


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, noted):
        self.noted = noted

    def __call__(self, step):
        tf.py_function(self.noted.note, [], [])
        return tf.constant(0.01)

    def get_config(self):
        return {"noted": self.noted}


def model_of(noted, place="layer"):
    keras.utils.set_random_seed(0)

    def activation(x):
        tf.py_function(noted.note, [], [])
        return tf.nn.relu(x)

    regularizer = Regularizer(noted) if place == "regularizer" else None
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(
                4, activation if place == "activation" else None, kernel_regularizer=regularizer
            ),
            *([Noting(noted)] if place == "layer" else []),
            layers.Dense(1),
        ]
    )
    rate = Schedule(noted) if place == "schedule" else 0.01
    model.compile(keras.optimizers.SGD(rate), Loss(noted) if place == "loss" else "mse")
    return model


@every_kind
def test_isolated_puts_back_what_a_layer_holds(kind):
    noted = kind()
    model = model_of(noted)
    before = noted.state()
    with isolated(model) as restart:
        noted.note()
        assert noted.state() != before  # else the test could not fail
        restart()
        assert noted.state() == before
        noted.note()

    assert noted.state() == before


def test_what_a_module_holds_can_still_be_saved(tmp_path):
    """TensorFlow refuses containers that were changed past its wrappers."""
    noted = Module()
    with isolated(model_of(noted)):
        noted.note()

    tf.train.Checkpoint(noted).write(str(tmp_path / "module"))


PLACES = ["layer", "regularizer", "loss", "schedule", "activation"]


@pytest.mark.parametrize("place", PLACES)
def test_an_analysis_leaves_it_as_it_was_wherever_it_is(place):
    noted = Plain()
    model = model_of(noted, place)
    before = noted.state()
    gradscope.analyze(model, normal(8, 3), normal(8, 1), num_batches=1)

    assert noted.state() == before


@pytest.mark.slow
@every_kind
def test_an_analysis_leaves_what_a_layer_holds_as_it_was(kind):
    noted = kind()
    model = model_of(noted)
    before = noted.state()
    gradscope.analyze(model, normal(8, 3), normal(8, 1), num_batches=1)

    assert noted.state() == before


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", [gradscope.rehearse, gradscope.treat])
def test_training_copies_leaves_it_as_it_was(run, place):
    """A copy may share with the patient what its config holds."""
    noted = Plain()
    model = model_of(noted, place)
    before = noted.state()
    run(model, normal(80, 3), normal(80, 1), steps=8)

    assert noted.state() == before


class Unused(keras.Model):
    """A layer that is never called, so the model never counts as built."""

    def __init__(self):
        super().__init__()
        self.recurrent = layers.LSTM(2, stateful=True)
        self.never, self.out, self.mean = layers.Dense(3), layers.Dense(1), keras.metrics.Mean()
        self.plain = Plain()

    def call(self, x):
        self.plain.note()
        self.mean.update_state(x)
        return self.out(self.recurrent(x))


def test_a_model_with_an_unused_layer_is_left_as_it_was():
    model = Unused()
    x = normal(8, 4, 3)
    model(x)
    held = [*model.recurrent.states, *model.mean.variables]

    def state():
        return [v.numpy().tolist() for v in held], model.plain.state()

    before = state()
    gradscope.analyze(model, x, normal(8, 1), batch_size=8, num_batches=1)

    assert state() == before
