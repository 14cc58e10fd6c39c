"""saturated-gates: the gates of an LSTM or GRU are stuck open or shut."""

from __future__ import annotations

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Skipped
from gradscope.signals.common import clean_unless, confidence, example_profile, example_stats, names
from gradscope.signals.time import example
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "saturated-gates"
_UNSCALED = 5.0  # rms of an input, beside which usual kernels saturate gates


def _example(fraction: float) -> Profile:
    (layer,) = example(0.9, gated=True).layers
    values = {name: getattr(layer, name) for name in layer.__dataclass_fields__}
    return example_profile(
        [LayerProfile(**{**values, "gate_saturated_fraction": fraction, "input": example_stats()})]
    )


@symptom(
    id=_ID,
    precedence=100,
    summary="the gates of an LSTM or GRU are stuck open or shut",
    why=(
        "A gate learns when to keep, add and output information. Far out on its sigmoid it has "
        "almost no gradient: it stays open or shut whatever the input is, and the cell cannot "
        "learn what to remember."
    ),
    measured=(
        "Fraction of the gates' pre-activations, over all gates, steps and samples, at which the "
        "gate's derivative is below a tenth of its maximum (sigmoid: beyond +-3.6)."
    ),
    silent=(
        "Cells that hold on to something by design: forget gates open and input gates shut, by a "
        "large bias or by training, are two of an LSTM's three gates."
    ),
    needs=("data", "recurrent"),
    measures=("layers", "gate_saturated_fraction"),
    thresholds=(
        Threshold(
            f"{_ID}.warning_fraction",
            0.7,
            "fraction",
            "derived",
            "a start for long memories (Tallec and Ollivier 2018, section 2) shuts input gates and "
            "opens forget gates: two thirds at most. LSTMs and GRUs trained on the adding problem "
            "and on recall over 30 to 60 steps had 0 to 0.35",
            "More gates are stuck than any memory task needs.",
        ),
        Threshold(
            f"{_ID}.error_fraction",
            0.9,
            "fraction",
            "calibrated",
            "recall over 30 steps: biases of +8 or -8 saturate all gates and the answers stay at "
            "chance",
            "Almost no gate can learn.",
        ),
    ),
    treatments=(
        "input-normalization",
        "glorot-initialization",
        "forget-gate-bias",
        "layer-normalization",
    ),
    sources=(
        "Gu et al. 2020, Improving the gating mechanism of recurrent neural networks, "
        "arXiv:1910.09890, section 2",
        "Tallec and Ollivier 2018, Can recurrent neural networks warp time?, arXiv:1804.11188",
    ),
    sick=lambda: _example(0.95),
    healthy=lambda: _example(0.6),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    stuck = [
        layer
        for layer in profile.layers
        if (layer.gate_saturated_fraction or 0.0) >= limits["warning_fraction"]
    ]
    if not stuck:
        lacking = [
            layer
            for layer in profile.layers
            if layer.timesteps
            and layer.gate_saturated_fraction is None
            and any(name in layer.class_ for name in ("LSTM", "GRU"))
        ]
        return clean_unless(_ID, lacking, "the fraction of saturated gates")
    highest = max(layer.gate_saturated_fraction or 0.0 for layer in stuck)
    bound = limits["warning_fraction"]
    ids = tuple(layer.id for layer in stuck)
    return [
        Finding(
            symptom=_ID,
            severity="error" if highest >= limits["error_fraction"] else "warning",
            confidence=confidence(profile),
            layers=ids,
            culprits=ids,
            evidence=tuple(
                Evidence(
                    "gate_saturated_fraction",
                    layer.gate_saturated_fraction or 0.0,
                    bound,
                    "fraction",
                    layer.id,
                )
                for layer in stuck
            ),
            message=_message(stuck, highest),
        )
    ]


def _message(stuck: list[LayerProfile], highest: float) -> str:
    name = names([layer.id for layer in stuck])
    text = f"Up to {highest:.0%} of the gates of {name} are stuck open or shut"
    first = stuck[0]
    if first.input is not None and first.input.rms > _UNSCALED:
        text += f". The inputs are not scaled (rms {first.input.rms:.3g})"
    return text + "."
