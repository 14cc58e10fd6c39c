"""Ctrl-C at any line of what changes the model or the process leaves both as they were."""

from __future__ import annotations

import gc
import random

import keras
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.backend import patches, tensorflow_private
from tests.support.by_hand import normal
from tests.support.interrupts import ROOT, interrupt, lines_of
from tests.support.snapshot import Snapshot

MODULES = (
    "analysis.py",
    *(f"backend/{name}.py" for name in ("cleanup", "isolation", "patches", "reachable")),
    *(f"backend/{name}.py" for name in ("seeding", "train_step")),
    *(f"measure/{path.name}" for path in sorted((ROOT / "measure").glob("*.py"))),
)


class Block(layers.Layer):
    """Code between layers, whose operations are followed."""

    def __init__(self):
        super().__init__()
        self.inner, self.seen = layers.Dense(3, "tanh"), tf.Variable(0.0)

    def call(self, x):
        self.seen.assign_add(1.0)
        return x + tf.math.log(self.inner(x))  # NaN, whose origin is looked for


def patient() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            Block(),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model


def patched_in() -> list[object]:
    """What `patches` has open."""
    return [
        dict(patches._installed),
        set(patches._following),
        tf.GradientTape.gradient.__module__,
        tensorflow_private.custom_gradients()[tensorflow_private.DECORATOR].__module__,
    ]


def check(number: int | None) -> None:
    model, x, y = patient(), normal(4, 3), normal(4, 1)

    def run() -> None:
        gradscope.analyze(model, x, y, batch_size=4, num_batches=1)

    run()
    before, patches_before = Snapshot(model), patched_in()
    lines = lines_of(run, MODULES)
    assert len(lines) > 400
    rng = random.Random(0)
    faults = []
    for line in lines if number is None else rng.sample(lines, number):
        for last in (False, True):
            came_out = interrupt(run, line, last)
            gc.collect()
            changed = before.differences(Snapshot(model))
            if not came_out or changed or patched_in() != patches_before:
                faults.append((line, last, came_out, changed, patched_in() != patches_before))
                (model,) = [patient()]
                run()
                before, patches_before = Snapshot(model), patched_in()
    assert not faults, "\n".join(map(str, faults))


@pytest.mark.slow
def test_an_interrupt_at_any_line_of_an_analysis_leaves_no_trace():
    check(60)
