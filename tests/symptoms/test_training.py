"""The symptoms of a training run, on made-up histories; recorded runs are in tests/runs."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import Finding, LossTerm, Profile, Timesteps
from gradscope.signals.common import example_stats
from gradscope.signals.example_runs import example_curve, example_noise, example_run
from gradscope.signals.rehearsals import example_rehearsal


def findings(id: str, profile: Profile) -> list[Finding]:
    return list(diagnose(profile, select=[id])[0])


def status(id: str, profile: Profile) -> tuple[str, str | None]:
    (check,) = diagnose(profile, select=[id])[1]
    return check.status, check.reason


def noisy(level: float, count: int = 200, scale: float = 0.01) -> list[float]:
    return [level + v for v in example_noise(count, scale)]


# ---- what is not known


@pytest.mark.parametrize("id", ["loss-plateau", "loss-divergence", "gradient-spike"])
def test_without_a_history_nothing_is_examined(id):
    profile = dataclasses.replace(example_run([1.0] * 10), history=None)

    assert status(id, profile) == (
        "not examined", "needs a training run; watch one with gradscope.Monitor",
    )  # fmt: skip


def test_a_plateau_needs_the_loss_of_a_constant_prediction():
    assert status("loss-plateau", example_run(noisy(1.0), constant=None))[0] == "not examined"


def test_classes_tell_the_loss_of_a_constant_prediction():
    """Log K stands in where the labels were not measured."""
    profile = example_run(noisy(math.log(10)), constant=None)
    term = LossTerm("out", "out", "softmax", (10,), 0.0, 1.0, True, False,
                    "sparse_categorical_crossentropy")  # fmt: skip
    profile = dataclasses.replace(profile, loss=dataclasses.replace(profile.loss, terms=(term,)))

    assert [f.symptom for f in findings("loss-plateau", profile)] == ["loss-plateau"]


@pytest.mark.parametrize("losses", [[], [1.0], [math.nan], [1.0, math.nan]], ids=str)
@pytest.mark.parametrize("id", ["gradient-spike", "learning-rate-too-high", "loss-oscillation",
                                "learning-rate-too-low", "loss-plateau"])  # fmt: skip
def test_a_run_that_has_hardly_begun_is_not_judged(id, losses):
    assert findings(id, example_run(losses, planned=100)) == []


# ---- loss-plateau


def test_a_converged_run_is_no_plateau():
    assert findings("loss-plateau", example_run(noisy(0.05, scale=1e-4))) == []


def test_a_loss_that_may_hide_something_learned_is_no_plateau():
    assert findings("loss-plateau", example_run(noisy(0.99, 100, scale=0.3))) == []


def test_a_plateau_with_a_growing_gradient_is_being_left():
    norms = [1.02**n for n in range(200)]

    assert findings("loss-plateau", example_run(noisy(1.0))) != []
    assert findings("loss-plateau", example_run(noisy(1.0), norms=norms)) == []


def test_a_loss_that_grows_or_became_nan_is_no_plateau():
    grown = [1.03**n for n in range(200)]

    assert findings("loss-plateau", example_run(grown)) == []
    assert findings("loss-plateau", example_run([*noisy(1.0), math.nan])) == []
    assert findings("loss-plateau", example_run([*noisy(1.0), math.nan, 1.0])) != []


def test_a_warm_up_is_waited_for():
    rates = [1e-4 * n for n in range(1, 201)]

    assert findings("loss-plateau", example_run(noisy(1.0), rates=rates)) == []


def test_a_plateau_is_judged_after_a_fifth_of_the_run():
    assert findings("loss-plateau", example_run(noisy(1.0), planned=1001)) == []
    assert findings("loss-plateau", example_run(noisy(1.0), planned=1000)) != []


def test_an_output_that_says_nothing_of_the_inputs_makes_it_an_error():
    profile = example_run(noisy(1.0, scale=0.1))
    history = profile.history
    assert history is not None
    blind = [
        dataclasses.replace(
            s, layers=tuple(dataclasses.replace(la, sample_variation=1e-6) for la in s.layers)
        )
        for s in history.snapshots
    ]
    history = dataclasses.replace(history, snapshots=tuple(blind))
    (finding,) = findings("loss-plateau", dataclasses.replace(profile, history=history))

    assert (finding.severity, finding.confidence) == ("error", "high")
    assert "only 1.0e-06 depends on the input" in finding.message


# ---- loss-divergence


def test_nan_is_certain_and_names_the_step():
    (finding,) = findings("loss-divergence", example_run([1.0] * 7 + [math.nan] * 3))

    assert (finding.severity, finding.confidence) == ("error", "high")
    assert "since step 8" in finding.message
    assert finding.evidence[0].observed == 3


def test_a_nan_that_was_got_over_is_none():
    assert findings("loss-divergence", example_run([1.0] * 7 + [math.nan] + [1.0] * 20)) == []


def test_all_that_was_learned_is_lost():
    learned = [0.95**n for n in range(60)]

    assert findings("loss-divergence", example_run(learned + noisy(1.0, 60))) != []


def test_a_restart_that_keeps_half_is_no_divergence():
    learned = [0.95**n for n in range(60)]

    assert findings("loss-divergence", example_run(learned + noisy(0.5, 60))) == []


def test_a_loss_that_starts_high_and_falls_does_not_diverge():
    assert findings("loss-divergence", example_run([100 * 0.9**n for n in range(40)])) == []


# ---- the rate


def test_long_steps_that_learn_are_none_too_high():
    assert findings("learning-rate-too-high", example_run(noisy(0.5), ratio=2.0)) == []


def test_usual_steps_are_none_too_high():
    assert findings("learning-rate-too-high", example_run(noisy(1.5), ratio=1e-3)) == []


def dying(*num_dead: int, ratio: float = 0.4, constant: float | None = None, batch_size: int = 64):
    """A falling loss; the hidden layers' units, 64 each, that each snapshot found dead."""
    losses = [0.9**n for n in range(10 * len(num_dead))]
    profile = example_run(losses, ratio=ratio, constant=constant)
    history = profile.history
    assert history is not None
    output = example_stats(count=64 * batch_size)
    snapshots = []
    for snapshot, dead in zip(history.snapshots, num_dead, strict=False):
        rows = [dataclasses.replace(r, num_dead=dead, num_units=64, output=output)
                for r in snapshot.layers]  # fmt: skip
        snapshots.append(dataclasses.replace(snapshot, layers=tuple(rows)))
    history = dataclasses.replace(history, snapshots=tuple(snapshots))
    return dataclasses.replace(profile, layers=snapshots[-1].layers, history=history)


@pytest.mark.parametrize(("num_dead", "severity"), [(40, "warning"), (60, "error")])
def test_a_rate_that_kills_units_is_too_high_whatever_the_loss_is(num_dead, severity):
    found, _ = diagnose(dying(4, 30, num_dead))
    severities = {f.symptom: f.severity for f in found}

    assert severities["learning-rate-too-high"] == severity
    assert severities["dead-relu"] == "info"  # it follows
    assert found[0].symptom == "learning-rate-too-high"
    assert "of the units of dense_0, dense_1, dense_2 died" in found[0].message


@pytest.mark.parametrize(
    "profile",
    [
        dying(4, 20, 30),  # sparsity that grows
        dying(4, 30, 60, ratio=0.01),  # they die, but not of long steps
        dying(40, 50, 60),  # dead from the start
        dying(4, 30, 60, constant=1.0),  # what is left has learned
        dying(4, *[60] * 3, batch_size=8),  # 32 samples, in one of which they were on
    ],
)
def test_units_that_did_not_die_of_the_rate(profile):
    assert findings("learning-rate-too-high", profile) == []


def test_units_that_died_in_a_rehearsal_that_learned_do_no_harm():
    rehearsed = example_rehearsal([0.1] * 60, 0.94)
    profile = dataclasses.replace(dying(4, 30, 60), rehearsal=rehearsed.rehearsal)

    assert findings("learning-rate-too-high", profile) == []


def test_short_steps_are_enough_for_a_long_run():
    """The same run, planned a thousand times longer."""
    sick = {"losses": noisy(1.0, 300), "ratio": 1e-5}

    assert findings("learning-rate-too-low", example_run(**sick, planned=1000)) != []
    assert findings("learning-rate-too-low", example_run(**sick, planned=1_000_000)) == []


def test_fine_tuning_takes_short_steps():
    assert findings("learning-rate-too-low", example_run(noisy(0.1), ratio=1e-6, planned=400)) == []


def test_a_rate_that_still_rises_is_none_too_low():
    rates = [1e-6 * n for n in range(1, 201)]
    profile = example_run(noisy(1.0), rates=rates, ratio=1e-6, planned=400)

    assert findings("learning-rate-too-low", profile) == []


def test_kernels_without_a_gradient_are_no_matter_of_the_rate():
    assert findings("learning-rate-too-low", example_run(noisy(1.0), ratio=0.0, planned=400)) == []


def halted(profile, after: int):
    """The same run, whose kernels do not move any more after so many steps."""
    history = profile.history
    snapshots = tuple(
        dataclasses.replace(
            s, layers=tuple(dataclasses.replace(row, update_ratio=0.0) for row in s.layers)
        )
        if s.step > after
        else s
        for s in history.snapshots
    )
    return dataclasses.replace(profile, history=dataclasses.replace(history, snapshots=snapshots))


@pytest.mark.parametrize(("factor", "found"), [(0.8, True), (1.0, False)])
def test_a_rate_that_decayed_until_steps_are_lost_in_rounding_is_too_low(factor, found):
    rates = [1e-3 * factor**n for n in range(200)]
    profile = example_run(noisy(1.0), rates=rates, ratio=1e-5, planned=400)

    assert bool(findings("learning-rate-too-low", halted(profile, 60))) is found


@pytest.mark.parametrize(("factor", "found"), [(0.8, True), (1.0, False)])
def test_between_snapshots_the_rate_tells_how_far_steps_go(factor, found):
    """Steps of 0.003 of the kernel at first: over 65 alike it would move by a fifth."""
    rates = [1e-3 * factor**n for n in range(200)]
    profile = example_run(noisy(1.3), rates=rates, planned=400)
    history = profile.history
    first = history.snapshots[0]
    snapshots = []
    for step, ratio in ((1, 3e-3), (65, 3e-3 * factor**64), (129, 0.0)):
        layers = tuple(dataclasses.replace(row, update_ratio=ratio) for row in first.layers)
        snapshots.append(dataclasses.replace(first, step=step, layers=layers))
    history = dataclasses.replace(history, snapshots=tuple(snapshots))
    profile = dataclasses.replace(profile, history=history)

    assert bool(findings("learning-rate-too-low", profile)) is found


# ---- swings and spikes


@pytest.mark.parametrize("period", [2, 3, 7])
def test_swings_of_any_period_are_found(period):
    losses = [1.5 + math.cos(2 * math.pi * n / period) for n in range(200)]
    (finding,) = findings("loss-oscillation", example_run(losses))

    told = re.search(r"about ([0-9.]+) steps", finding.message)
    assert told is not None
    assert float(told[1]) == pytest.approx(period, rel=0.05)


def test_swings_on_the_way_down_are_none():
    losses = [(1.5 + math.cos(math.pi * n)) * 0.98**n for n in range(200)]

    assert findings("loss-oscillation", example_run(losses)) == []


def test_noise_is_no_swing():
    losses = np.exp(0.7 * np.random.default_rng(3).standard_normal(400)).tolist()

    assert findings("loss-oscillation", example_run(losses)) == []


def test_long_gradients_among_short_ones_are_no_longer_than_at_the_start():
    """Batches of two of a converged model."""
    norms = [5.0, 3.0, 2.0] + [1e-4] * 100 + [4.0] + [1e-4] * 10

    assert findings("gradient-spike", example_run([0.1] * len(norms), norms=norms)) == []


def test_a_spike_names_its_step():
    norms = [1.0] * 80 + [50.0] + [1.0] * 10
    (finding,) = findings("gradient-spike", example_run([1.0] * len(norms), norms=norms))

    assert "At step 81 the gradient's norm is 50, 50 times" in finding.message


def test_a_spike_is_forgotten():
    norms = [1.0] * 80 + [50.0] + [1.0] * 100

    assert findings("gradient-spike", example_run([1.0] * len(norms), norms=norms)) == []


# ---- what momentum keeps


def turned(momentum: float | None, planned: int = 400, count: int = 200) -> Profile:
    """A loss that comes down to 0.4 and rises to 0.8 again."""
    losses = [max(0.4, 1 - 0.01 * n) + max(0, n - 100) * 0.004 for n in range(count)]
    profile = example_run([x + v for x, v in zip(losses, noisy(0, count), strict=True)],
                          planned=planned)  # fmt: skip
    return dataclasses.replace(profile, model=dataclasses.replace(profile.model, momentum=momentum))


@pytest.mark.parametrize(
    ("momentum", "planned", "found"),
    [
        (0.9995, 400, True),  # 0.9995**200 = 0.90
        (0.9995, 2000, False),  # 0.61: the swings die out in time
        (0.99, 400, False),
        (None, 400, False),
    ],
)
def test_a_loss_that_rises_again_under_momentum_that_keeps_swings(momentum, planned, found):
    assert bool(findings("loss-oscillation", turned(momentum, planned))) is found


def test_how_much_of_a_swing_is_left_is_told():
    (finding,) = findings("loss-oscillation", turned(0.9995))

    assert finding.evidence[0].observed == pytest.approx(0.9995**200)
    assert "leaves 90% of such a swing after the 400 steps planned" in finding.message


def test_a_loss_that_falls_under_such_momentum_is_left_alone():
    losses = [1 - 0.004 * n + v for n, v in enumerate(noisy(0, 200, 0.02))]
    profile = example_run(losses, planned=400)
    model = dataclasses.replace(profile.model, momentum=0.9995)

    assert findings("loss-oscillation", dataclasses.replace(profile, model=model)) == []


# ---- recurrent layers whose gradient does not come back


def recurrent(losses: list[float], gain: float, luck: list[float] | None = None) -> Profile:
    """A run of a recurrent layer with this gain in each of 29 steps back."""
    profile = example_run(losses, planned=len(losses))
    steps = Timesteps(gradient_rms=(), recurrent_gain=(gain,) * 29, half_life=None)
    history = profile.history
    assert history is not None
    snapshots = tuple(
        dataclasses.replace(
            s, layers=tuple(dataclasses.replace(row, timesteps=steps) for row in s.layers)
        )
        for s in history.snapshots
    )
    history = dataclasses.replace(
        history, snapshots=snapshots, batch_constant=example_curve(luck or [])
    )
    return dataclasses.replace(profile, layers=snapshots[-1].layers, history=history)


def test_a_flat_noisy_loss_is_a_plateau_where_the_gradient_does_not_come_back():
    losses = noisy(1.0, 100, scale=0.3)

    assert findings("loss-plateau", recurrent(losses, 0.8)) != []  # 0.8**29: 2.8 decades
    assert findings("loss-plateau", recurrent(losses, 0.9)) == []  # 1.3 decades


def test_what_labels_do_to_the_loss_of_a_batch_is_taken_out():
    """All that this model has learned is a tenth, which the noise of labels hides."""
    luck = noisy(1.0, 100, scale=0.3)
    learned = [0.9 * v for v in luck]

    assert findings("loss-plateau", recurrent(learned, 0.8)) != []
    assert findings("loss-plateau", recurrent(learned, 0.8, luck)) == []
    assert findings("loss-plateau", recurrent(luck, 0.8, luck)) != []


def test_memory_is_not_missed_where_the_loss_falls():
    """3.5 decades are lost, which is a warning before training."""
    assert findings("vanishing-through-time", recurrent([1.0] * 100, 0.757)) != []
    assert findings("vanishing-through-time", recurrent(noisy(0.5, 100), 0.757)) == []
    assert findings("vanishing-through-time", recurrent([1.0] * 20, 0.757)) == []
    lost = findings("vanishing-through-time", recurrent(noisy(0.5, 100), 0.6))
    assert {f.severity for f in lost} == {"error"}


# ---- where a run began


def test_one_lucky_batch_at_the_start_says_nothing():
    losses = [0.2, 1.0, 0.9, 1.1, *noisy(0.9, 40)]

    assert findings("loss-divergence", example_run(losses, constant=None)) == []
