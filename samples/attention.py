"""Attention whose scores are thirty times too large, and with queries and keys of one size.

python -m gradscope.samples.attention
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._measures import claim_diagnosed, find_prescription, proof

if TYPE_CHECKING:
    import keras

    from gradscope import Report
    from gradscope.records import AttentionProfile

FACTOR = 30.0
HEADS, HEAD_DIM, WIDTH = 2, 16, 32
SAMPLES = 2048
HENRY = "Henry et al. 2020, arXiv:2010.04245, section 3"


@sample(
    id="attention",
    summary="scores times 30: each query takes one key and learns no other; normalised, they learn",
    full=Budget(steps=300, seeds=3, size=12),
    reduced=Budget(steps=250, seeds=3, size=12),
)
def run(budget: Budget) -> Story:
    x, y = pointers(budget.size)
    sick = model_of(budget.size, FACTOR)
    report = gradscope.analyze(sick, x, y)
    prescription = find_prescription(report, "query-key-normalization")
    treated = gradscope.apply(sick, prescription, x).model
    after = gradscope.analyze(treated, x, y)
    trial = gradscope.trial(sick, treated, x, y, steps=budget.steps, seeds=budget.seeds)
    return Story(
        sections=(
            _saturated(report, budget.size),
            _normalized(report, after, prescription.rationale),
            proof({"normalised": trial}, "scores times 30", at_least=0.3),
        ),
        reports={"sick": report, "normalised": after},
    )


def pointers(words: int) -> tuple[np.ndarray, np.ndarray]:
    """A pointer, then as many words as there are: the label is the word that it points to.

    Each step is a word and its place, both one-hot.
    """
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, words, (SAMPLES, words + 1))
    labels = tokens[np.arange(SAMPLES), 1 + tokens[:, 0]]
    places = np.broadcast_to(np.eye(words + 1), (SAMPLES, words + 1, words + 1))
    return np.concatenate([np.eye(words)[tokens], places], -1).astype("float32"), labels


def model_of(words: int, factor: float = 1.0) -> keras.Model:
    """One block of attention whose scores start `factor` times as large as usual."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    tokens = keras.Input((words + 1, 2 * words + 1), name="tokens")
    h = layers.LayerNormalization()(layers.Dense(WIDTH, name="embedding")(tokens))
    attention = layers.MultiHeadAttention(HEADS, HEAD_DIM, name="attention")
    h = layers.LayerNormalization()(layers.Add()([h, attention(h, h)]))
    h = layers.Flatten()(layers.Cropping1D((0, words))(h))  # what the pointer has become
    h = layers.Dense(WIDTH, "relu", name="hidden")(h)
    model = keras.Model(tokens, layers.Dense(words, "softmax", name="output")(h))
    attention.query_dense.kernel.assign(factor * attention.query_dense.kernel)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", jit_compile=False)
    return model


def heads(report: Report) -> AttentionProfile:
    """What the one attention of the model does, head by head."""
    return next(layer.attention for layer in report.layers if layer.attention)


def mean(values: tuple[float | None, ...]) -> float:
    """Over the heads."""
    return float(np.mean([math.nan if value is None else value for value in values]))


def _saturated(report: Report, words: int) -> Section:
    found = heads(report)
    return Section(
        "Scores that are too large",
        f"A sequence of a pointer and {words} words; the label is the word that the pointer points "
        "to, so a network whose attention does not learn can only guess. The kernel of the "
        f"queries, and with it every score, starts {FACTOR:g} times as large as usual. Where one "
        "probability is nearly 1, all products p (dL/dp - ...) are nearly 0: queries and keys get "
        "next to no gradient, and which key is taken is left to chance."
        f"\n\n{report.findings[0].message}",
        formulas=(
            Formula(
                "p = softmax(s),  dL/ds_j = p_j (dL/dp_j - Σ_k p_k dL/dp_k)",
                "Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1, where it says why scores "
                "are divided by √d",
            ),
            Formula(
                "entropy of p: 0 for one key, log n for n keys alike",
                "Zhai et al. 2023, arXiv:2303.06296, section 3",
            ),
        ),
        claims=(
            claim_diagnosed(report, "saturated-attention"),
            Claim(
                "share of the largest entropy that is left, mean over the heads",
                mean(found.entropy_fraction),
                at_most=0.15,
            ),
            Claim(
                "standard deviation of a query's scores, mean over the heads",
                mean(found.score_std),
                at_least=10.0,
            ),
        ),
        report="sick",
    )


def _normalized(report: Report, after: Report, rationale: str) -> Section:
    now = heads(after)
    bars = {
        name: [0.0 if value is None else value for value in found.entropy_fraction]
        for name, found in {"scores times 30": heads(report), "normalised": now}.items()
    }
    told = "; ".join(f"{name}: {', '.join(f'{v:.2g}' for v in vs)}" for name, vs in bars.items())
    return Section(
        "Queries and keys of one size",
        f"gradscope prescribes query-key-normalization. {rationale} The kernels stay as they are.",
        formulas=(
            Formula("s = g q̂ᵀk̂,  q̂ = q / ‖q‖,  k̂ = k / ‖k‖,  g learned", HENRY),
            Formula(
                "RMSNorm(q) = √d q̂ at the start, so s = RMSNorm(q)ᵀ RMSNorm(k) / √d = √d q̂ᵀk̂",
                "Zhang, Sennrich 2019, arXiv:1910.07467, equation 4",
            ),
        ),
        figures=(
            _figures.bars(
                "Entropy of each head, as a share of the largest",
                f"Bar chart, head by head: {told}.",
                bars,
                [f"head {n}" for n in range(1, HEADS + 1)],
                "share of the largest entropy",
            ),
        ),
        claims=(
            Claim(
                "normalised: standard deviation of a query's scores, mean over the heads",
                mean(now.score_std),
                at_least=0.3,
                at_most=2.0,
            ),
            Claim(
                "normalised: share of the largest entropy, mean over the heads",
                mean(now.entropy_fraction),
                at_least=0.5,
            ),
        ),
        report="normalised",
    )


if __name__ == "__main__":
    play("attention")
