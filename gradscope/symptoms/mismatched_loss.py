"""mismatched-loss: loss, output activation and labels that do not go together."""

from __future__ import annotations

import dataclasses

from gradscope.records import DataTensor, Evidence, Finding, LossTerm, Profile, Skipped
from gradscope.signals.common import example_chain
from gradscope.signals.loss_rules import verdicts
from gradscope.signals.losses import JUDGED, REGRESSIONS, Verdict
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "mismatched-loss"


def _example(outside: float, largest: float) -> Profile:
    profile = example_chain([1e-2] * 4)
    labels = DataTensor("y", "y", (1,), "float32", 128, 128, minimum=-largest, maximum=largest)
    term = LossTerm(
        output="dense_3",
        layer="dense_3",
        activation="tanh",
        shape=(1,),
        minimum=-0.5,
        maximum=0.4,
        sums_to_one=False,
        has_logits=False,
        loss="mean_squared_error",
        labels=labels,
        outside_fraction=outside,
        lowest=-1.0,
        highest=1.0,
    )
    return dataclasses.replace(profile, loss=dataclasses.replace(profile.loss, terms=(term,)))


@symptom(
    id=_ID,
    precedence=30,
    summary="the loss, the output's activation and the labels do not go together",
    why=(
        "Keras computes a number for almost any combination. Where the output cannot reach the "
        "labels, where a crossentropy gets no probabilities, or where shapes are repeated until "
        "they fit, that number falls little or not at all, or its minimum is not what was meant."
    ),
    measured=(
        "For each output: the loss and its from_logits (one of your own is asked whether it is "
        "lowest at the labels), the activation of the layer whose values it holds, past wrappers "
        "and reshapes, and where that can get to, the outputs' range on a few samples, whether "
        "Keras finds the logits behind them, and shape, range and kind of the labels."
    ),
    silent=(
        "Losses of your own that are not lowest where the output is the label; autoencoders and "
        "soft labels between 0 and 1; softmax with any crossentropy whose logits Keras finds (it "
        "computes from those); mean squared error on class labels with an adaptive optimizer, or "
        "on one or two units; absolute error on several flags a sample (pictures); labels outside "
        "by rounding. Notes: what learns classes slowly but did so in a rehearsal, a single label "
        "out of reach, and "
        "whole numbers on one linear unit, which may be ratings."
    ),
    measures=(),
    thresholds=(
        Threshold(
            f"{_ID}.note_outside_fraction",
            1e-5,
            "fraction",
            "convention",
            "one label in a hundred thousand",
            "A few labels, perhaps outliers, can never be met.",
        ),
        Threshold(
            f"{_ID}.warning_outside_fraction",
            0.01,
            "fraction",
            "convention",
            "one label in a hundred",
            "Some labels can never be met.",
        ),
        Threshold(
            f"{_ID}.error_outside_fraction",
            0.1,
            "fraction",
            "convention",
            "one label in ten",
            "The loss stays far from its minimum, and the activation saturates on the way.",
        ),
    ),
    treatments=("matched-loss", "matched-head"),
    sources=(
        "Bishop 2006, Pattern recognition and machine learning, section 4.3.6 and 5.2: each output "
        "activation has its matching loss",
        "Golik, Doetsch, Ney 2013, Cross-entropy vs. squared error training",
        "Ghosh, Kumar, Sastry 2017, Robust loss functions under label noise, arXiv:1712.09482",
        "Zhang, Sabuncu 2018, Generalized cross entropy loss, arXiv:1805.07836, section 3.2: the "
        "absolute error is slow on classes",
        "Keras, keras.losses: labels, shapes and from_logits of each loss",
    ),
    sick=lambda: _example(0.6, 2.0),
    healthy=lambda: _example(0.0, 0.9),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    judged = [t for t in profile.loss.terms if t.loss in JUDGED or t.is_distance]
    crossed = [term for term in profile.loss.own_terms if term.is_crossed]
    found = [_make_finding(term, _tell_crossed(term), profile) for term in crossed]
    found += [
        _make_finding(term, verdict, profile)
        for term in profile.loss.terms
        for verdict in sorted(verdicts(term, profile, limits), key=_severity)[:1]
    ]
    if not found and not judged:
        return Skipped(_ID, "the loss is not one that can be judged")
    if not found and not any(term.labels for term in judged):
        return Skipped(_ID, "needs labels; those used were made up")
    unknown = next(filter(None, map(_unknown, judged)), None)
    return Skipped(_ID, unknown) if unknown and not found else found


def _unknown(term: LossTerm) -> str | None:
    """What is not known of a term and its labels that could be wrong."""
    labels = term.labels
    if labels is not None and None in (labels.minimum, labels.maximum):
        return f"{labels.name} holds no finite numbers"
    is_shaped = term.activation not in (None, "linear") and term.loss in REGRESSIONS
    if labels is not None and is_shaped and term.outside_fraction is None:
        return f"it is not known which labels {term.activation} can reach"
    return None


def _tell_crossed(term: LossTerm) -> Verdict:
    assert term.labels is not None
    labels, outputs = (
        "(samples, 1)" if shape else "(samples,)" for shape in (term.labels.shape, term.shape)
    )
    text = (
        f"the train_step compares labels of shape {labels} with outputs of shape {outputs}, which "
        "makes (samples, samples): every output learns the labels of all samples, of which it can "
        "meet the mean only; give both one shape"
    )
    return "error", Evidence("num_repeated", float(term.labels.num_samples), 2.0), text


def _severity(verdict: Verdict) -> int:
    return ("error", "warning", "info").index(verdict[0])


def _make_finding(term: LossTerm, verdict: Verdict, profile: Profile) -> Finding:
    severity, evidence, text = verdict
    # A layer that is called several times makes the output in its last call.
    ids = [layer.id for layer in profile.layers if layer.path == term.layer][-1:]
    where = f"Output {term.output}: " if len(profile.loss.terms) > 1 else ""
    if text.startswith(f"{term.loss} "):  # a name keeps its small letters
        text = f"the loss {text}"
    return Finding(
        symptom=_ID,
        severity=severity,
        confidence="medium" if term.own_loss else "high",
        layers=tuple(ids),
        culprits=tuple(ids),
        evidence=(dataclasses.replace(evidence, layer=ids[0] if ids else None),),
        message=f"{where}{text[:1].upper()}{text[1:]}.",
    )
