"""What is tried on a model, before anything is trained."""

from __future__ import annotations

import keras

import gradscope
from gradscope.records import Declined
from gradscope.therapy.candidates import Candidate, propose
from gradscope.trials.splits import Examples
from tests.programs.own_steps import Oscillator
from tests.support.by_hand import normal


def test_nothing_that_leaves_second_derivatives_at_zero_is_tried():
    """Under a loss that cannot see what it asks for, whatever makes it fall looks like a cure."""
    keras.utils.set_random_seed(0)
    model = Oscillator("relu")
    model.compile("adam")
    model.build((None, 1))
    model.net.get_layer("h2").bias.assign([-0.3] * 32)  # units that die ask for other treatments
    times = abs(normal(64, 1))

    report = gradscope.analyze(model, times)
    outcomes = [o for some in propose(model, report, Examples(times), lambda p: True) for o in some]
    candidates = [o for o in outcomes if isinstance(o, Candidate)]

    assert len(report.prescriptions) > 1
    assert candidates
    assert all("swap-activation" in c.ids for c in candidates)
    assert any(isinstance(o, Declined) and "means nothing" in o.reason for o in outcomes)
