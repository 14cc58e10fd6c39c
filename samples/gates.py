"""The adding problem over a hundred steps: SimpleRNN against GRU and LSTM, gradient against lag.

python -m gradscope.samples.gates
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._data import adding
from gradscope.samples._measures import diagnosed, prescribed, proof

if TYPE_CHECKING:
    import keras

    from gradscope import Report
    from gradscope.records import LayerProfile

UNITS = 32
LSTM_PAPER = "Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735"


@sample(
    id="gates",
    summary="the adding problem over 100 steps: SimpleRNN against GRU and LSTM, gradient by lag",
    full=Budget(steps=350, seeds=3, size=100),
    reduced=Budget(steps=120, seeds=3, size=30),
)
def run(budget: Budget) -> Story:
    x, y = adding(budget.size)
    models = {name: recurrent(name) for name in ("SimpleRNN", "GRU", "LSTM")}
    reports = {name: gradscope.analyze(model, x, y) for name, model in models.items()}
    simple = models["SimpleRNN"]
    prescription = prescribed(reports["SimpleRNN"], "gated-recurrence")
    # Either cell answers the finding; a GRU needs fewer steps for this task than an LSTM.
    gru = dataclasses.replace(prescription, parameters={"cell": "GRU"})
    treated = gradscope.apply(simple, [gru], x)
    trial = gradscope.trial(
        simple, treated.model, x, y, steps=budget.steps, seeds=budget.seeds, batch_size=64
    )
    learnt = trained(treated.model, x, y)
    return Story(
        sections=(
            _task(budget.size, reports["SimpleRNN"]),
            _lags(budget.size, reports),
            _gates(reports),
            Section("The cure", prescription.rationale),
            proof({"GRU": trial}, "SimpleRNN", at_least=0.3),
        ),
        reports=reports,
    )
