"""attention-to-padding: masks that arrive, and one that is lost on the way."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import AttentionProfile
from gradscope.signals.attention import example_attention

ID = "attention-to-padding"


class Positions(layers.Layer):
    """Adds a vector for every position, and forgets the mask."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, x):
        return x + self.table


class MaskedPositions(Positions):
    def __init__(self, **options):
        super().__init__(**options)
        self.supports_masking = True


def status(positions, *, mask_zero=True, shortest=2):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    tokens = keras.Input((12,), dtype="int32")
    h = positions()(layers.Embedding(20, 16, mask_zero=mask_zero)(tokens))
    h = layers.MultiHeadAttention(2, 8, name="attention")(h, h)
    h = layers.GlobalAveragePooling1D()(h)
    model = keras.Model(tokens, layers.Dense(1, "sigmoid")(h))
    model.compile("adam", "binary_crossentropy")
    x = rng.integers(1, 20, (64, 12))
    x[np.arange(12) >= rng.integers(shortest, 13, 64)[:, None]] = 0
    report = gradscope.analyze(model, x, rng.integers(0, 2, (64, 1)), select=[ID])
    return report.checks[0].status, report.findings


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_a_lost_mask_is_found():
    state, (finding,) = status(Positions)

    assert (state, finding.severity) == ("found", "warning")
    assert finding.culprits == ("attention/query:0",)
    assert "in attention goes to padding" in finding.message


def test_a_mask_that_arrives_is_clean():
    assert status(MaskedPositions) == ("clean", ())


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_a_lost_mask_that_hides_nothing_is_clean():
    assert status(Positions, shortest=12) == ("clean", ())


def test_without_a_mask_it_is_not_known_what_is_padding():
    assert status(Positions, mask_zero=False) == ("not examined", ())


@pytest.mark.parametrize(("fraction", "expected"), [(0.05, "clean"), (0.1, "found")])
def test_the_mean_over_the_heads_counts(fraction, expected):
    attention = AttentionProfile(
        2, (0.9, 0.9), (0.2, 0.2), (0.1, 0.1), (1.0, 1.0), (0.0, 2 * fraction)
    )
    _, (check,) = diagnose(example_attention(attention), select=[ID])

    assert check.status == expected
