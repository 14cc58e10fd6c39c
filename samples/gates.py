"""The adding problem over a hundred steps: SimpleRNN against GRU and LSTM, gradient against lag.

python -m gradscope.samples.gates
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._data import make_adding
from gradscope.samples._measures import claim_diagnosed, find_prescription, proof

if TYPE_CHECKING:
    import keras

    from gradscope import Report
    from gradscope.records import LayerProfile, Timesteps

UNITS = 32
CHRONO = "chrono LSTM"


@sample(
    id="gates",
    summary="the adding problem over 100 steps: SimpleRNN against GRU and LSTM, gradient by lag",
    full=Budget(steps=250, seeds=2, size=100),
    reduced=Budget(steps=200, seeds=2, size=80),
)
def run(budget: Budget) -> Story:
    x, y = make_adding(budget.size)
    names = ("SimpleRNN", "GRU", "LSTM", CHRONO)
    models = {name: recurrent(name, budget.size) for name in names}
    reports = {name: gradscope.analyze(model, x, y) for name, model in models.items()}
    simple = models["SimpleRNN"]
    prescription = find_prescription(reports["SimpleRNN"], "gated-recurrence")
    # Either cell answers the finding; this task takes a GRU fewer steps than an LSTM.
    chosen = dataclasses.replace(prescription, parameters={"cell": "GRU"})
    treated = gradscope.apply(simple, [chosen], x)
    trial = gradscope.trial(simple, treated.model, x, y, steps=budget.steps, seeds=budget.seeds)
    treated.model.fit(x, y, batch_size=32, epochs=budget.steps // (len(x) // 32), verbose=0)
    learnt = gradscope.analyze(treated.model, x, y)
    return Story(
        sections=(
            _task(budget.size, reports["SimpleRNN"]),
            _start(budget.size, reports),
            Section("The cure", prescription.rationale, report="simple"),
            proof({"GRU": trial}, "SimpleRNN", at_least=0.3),
            _tell_learnt(reports["GRU"], learnt),
        ),
        reports={"simple": reports["SimpleRNN"], "gru": reports["GRU"], "trained-gru": learnt},
    )


def recurrent(name: str, steps: int) -> keras.Model:
    """A compiled network of one recurrent layer; CHRONO's gates are set for that many steps."""
    import keras

    keras.utils.set_random_seed(0)
    if name == CHRONO:
        forget = np.log(np.linspace(1, steps - 1, UNITS))
        bias = np.concatenate([-forget, forget, np.zeros(2 * UNITS)])  # gates i, f, c, o
        layer = keras.layers.LSTM(UNITS, unit_forget_bias=False, name="rnn")
    else:
        layer, bias = getattr(keras.layers, name)(UNITS, name="rnn"), None
    model = keras.Sequential(
        [keras.Input((None, 2), name="sequence"), layer, keras.layers.Dense(1, name="sum")]
    )
    if bias is not None:
        layer.cell.bias.assign(bias)
    model.compile(keras.optimizers.Adam(0.02, global_clipnorm=1.0), "mse")
    return model


def _row(report: Report) -> LayerProfile:
    return next(layer for layer in report.layers if layer.timesteps is not None)


def _time(report: Report) -> Timesteps:
    steps = _row(report).timesteps
    assert steps is not None
    return steps


def _half_life(report: Report) -> float:
    """In steps; infinite where the gradient does not shrink."""
    return _time(report).half_life or math.inf


def _count_decades(report: Report) -> float:
    """Decades from the last step to the first: log10 of dL/dh_1 over dL/dh_T."""
    rms = _time(report).gradient_rms
    return math.log10(rms[0] / rms[-1])


def _task(steps: int, report: Report) -> Section:
    return Section(
        "The sick network",
        f"Two of {steps} random numbers are marked, and their sum is asked for: what came first "
        f"has to be kept for up to {steps - 1} steps. {report.findings[0].message}",
        formulas=(
            Formula(
                "‖dL/dh_(T-k)‖ ≤ ‖dL/dh_T‖ (‖W_rec‖ max|f'|)^k",
                "Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, eq. 5-7",
            ),
            Formula("half-life = ln 2 / -ln(mean factor a step)", "geometric decay"),
        ),
        claims=(
            claim_diagnosed(report, "vanishing-through-time"),
            Claim(
                "half-life of SimpleRNN's gradient", _half_life(report), at_most=10, unit="steps"
            ),
        ),
    )


def _start(steps: int, reports: dict[str, Report]) -> Section:
    curves = {name: _time(report).gradient_rms[::-1] for name, report in reports.items()}
    told = "; ".join(
        f"{name} {_count_decades(report):.1f} decades" for name, report in reports.items()
    )
    gru, lstm, remembering = (_row(reports[name]) for name in ("GRU", "LSTM", CHRONO))
    return Section(
        "Gradient against lag, before training",
        "Gates alone do not carry the gradient: at their usual start they are half open, and the "
        "state fades even faster than SimpleRNN's. What they add is that they can be opened, by "
        "training or by hand: a forget gate at bias ln(t - 1) keeps its cell for some t steps. The "
        "chrono LSTM has gates for every t up to T; the slow ones are saturated, on purpose.",
        formulas=(
            Formula(
                "b_f = ln t for t in [1, T - 1],  b_i = -b_f,  σ(ln(t - 1)) = 1 - 1/t",
                "Tallec and Ollivier 2018, arXiv:1804.11188, eq. 16",
            ),
        ),
        figures=(
            _figures.lines(
                "The gradient against the lag, at the start",
                f"Line chart on a log scale, change over {steps} steps: {told}.",
                {name: _figures.XY(range(len(curve)), curve) for name, curve in curves.items()},
                x_label="lag in steps",
                y_label="rms of dL/dh",
                marks="",
            ),
        ),
        claims=(
            Claim(
                "GRU: half-life at the start", _half_life(reports["GRU"]), at_most=5, unit="steps"
            ),
            Claim(
                "LSTM: half-life at the start", _half_life(reports["LSTM"]), at_most=5, unit="steps"
            ),
            Claim(
                f"{CHRONO}: half-life at the start",
                min(_half_life(reports[CHRONO]), 1e6),
                at_least=steps / 4,
                unit="steps",
            ),
            Claim(
                "GRU and LSTM: larger share of saturated gates",
                max(gru.gate_saturated_fraction or 0.0, lstm.gate_saturated_fraction or 0.0),
                at_most=0.05,
            ),
            Claim(
                f"{CHRONO}: share of saturated gates, opened or closed on purpose",
                remembering.gate_saturated_fraction or 0.0,
                at_least=0.1,
            ),
        ),
    )


def _tell_learnt(start: Report, learnt: Report) -> Section:
    curves = {
        "at the start": _time(start).gradient_rms[::-1],
        "trained": _time(learnt).gradient_rms[::-1],
    }
    return Section(
        "What training did to the gates",
        "The same GRU, trained once more for as many steps and examined again: where the task asks "
        "for it, its gates have learnt to let the state pass.",
        figures=(
            _figures.lines(
                "GRU: the gradient against the lag",
                "Line chart on a log scale, from the last step to the first: "
                f"{_count_decades(start):.1f} decades at the start, "
                f"{_count_decades(learnt):.1f} decades when trained.",
                {name: _figures.XY(range(len(curve)), curve) for name, curve in curves.items()},
                x_label="lag in steps",
                y_label="rms of dL/dh",
                marks="",
            ),
        ),
        claims=(
            Claim(
                "gradient of the first step over that of the last: trained against start",
                _count_decades(learnt) - _count_decades(start),
                at_least=3.0,
                unit="decades",
            ),
            Claim(
                "half-life: trained over start",
                min(_half_life(learnt), 1e6) / _half_life(start),
                at_least=2.0,
            ),
        ),
        report="trained-gru",
    )


if __name__ == "__main__":
    play("gates")
