"""gated-recurrence: an LSTM or GRU in the place of a simple recurrent layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.treatments import treatment
from gradscope.treatments.support.plans import find_affected, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "gated-recurrence"
_SOURCES = (
    "Hochreiter and Schmidhuber 1997, Long short-term memory, doi:10.1162/neco.1997.9.8.1735",
    "Cho et al. 2014, arXiv:1406.1078, section 2.3 (GRU)",
    "Jozefowicz, Zaremba, Sutskever 2015, An empirical exploration of recurrent network "
    "architectures",
)
# Measured at the usual start: an LSTM loses 0.09 decades of the gradient a step, a GRU 0.2.
_GRU_DECADES = 0.2
_AFFORDABLE = 5.0  # decades: beyond these float32 rounds away what the first steps contribute
# What belongs to the simple cell and not to its successor, which starts as Keras would start it.
_OWN = ("activation", "kernel_initializer", "recurrent_initializer", "bias_initializer")


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """One cell for all simple recurrent layers that the findings name."""
    simple = [layer for layer in find_affected(profile, findings) if layer.class_ == "SimpleRNN"]
    if not simple:
        return Declined(_ID, "no SimpleRNN among the affected layers")
    lags = max(_lags(layer) for layer in simple)
    cell = "LSTM" if lags * _GRU_DECADES > _AFFORDABLE else "GRU"
    return make_prescription(
        _ID,
        simple,
        findings,
        safety="unsafe",
        parameters={"cell": cell},
        rationale=(
            f"{simple[0].path} runs over {lags + 1} steps and multiplies the gradient by its "
            f"weights and its activation's derivative at each. The gates of {_a(cell)} let the "
            "state, and the gradient with it, pass from step to step almost unchanged."
        ),
        snippet=_snippet(simple, cell),
        sources=_SOURCES,
    )


def _lags(layer: LayerProfile) -> int:
    return len(layer.timesteps.recurrent_gain) if layer.timesteps else 0


def _a(cell: str) -> str:
    return f"an {cell}" if cell == "LSTM" else f"a {cell}"


def _snippet(layers: Sequence[LayerProfile], cell: str) -> str:
    lines = []
    for layer in layers:
        shape = layer.output_shape or ()
        units = shape[-1] if shape and shape[-1] else "units"
        sequences = ", return_sequences=True" if len(shape) == 3 else ""
        lines.append(
            f"# in place of the SimpleRNN {layer.path!r}\nkeras.layers.{cell}({units}{sequences})"
        )
    return "\n".join(lines)


@treatment(
    id=_ID,
    summary="replace SimpleRNN by LSTM or GRU",
    why=(
        "A simple recurrent layer overwrites its whole state at every step, so the gradient "
        "shrinks or grows geometrically with the number of steps. Gates add to the state instead, "
        "and learn when to keep it."
    ),
    caution=(
        "The layer starts from scratch, with four (LSTM) or three (GRU) times the weights and "
        "computing time. A layer that passes its state to another always becomes a GRU, because "
        "an LSTM has two states."
    ),
    rank=70,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    import keras

    from gradscope.backend.isolation import isolated
    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import rebuild

    places = {site.path: site.layer for site in sites(model)}
    chosen = {}
    for path in prescription.layers:
        outer = path.rpartition("/")[0]
        layer = places.get(path)
        if not isinstance(layer, keras.layers.SimpleRNN):
            return Declined(path, "is no SimpleRNN")
        both = places.get(outer)
        if isinstance(both, keras.layers.Bidirectional):
            chosen[outer] = both
        else:
            chosen[path] = layer
    cell = prescription.parameters["cell"]
    with isolated(model):
        return rebuild(model, {path: [_make_gated(layer, cell)] for path, layer in chosen.items()})


def _make_gated(layer: Any, cell: str) -> Any:
    import keras

    if isinstance(layer, keras.layers.Bidirectional):
        ways = [_make_gated(each, cell) for each in (layer.forward_layer, layer.backward_layer)]
        return keras.layers.Bidirectional(
            ways[0],
            merge_mode=layer.merge_mode,
            backward_layer=ways[1],
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
    kind = keras.layers.GRU if cell == "GRU" or _hands_on_state(layer) else keras.layers.LSTM
    if not isinstance(layer, keras.layers.SimpleRNN):  # the other way of a mixed Bidirectional
        kind, config = type(layer), layer.get_config()
        return kind.from_config(config)
    config = {name: value for name, value in layer.get_config().items() if name not in _OWN}
    return kind.from_config(config)


def _hands_on_state(layer: Any) -> bool:
    """Whether other layers take or give its state, which is a single tensor."""
    from gradscope.backend.keras_private import calls_of

    given = (node.arguments.kwargs.get("initial_state") for node in calls_of(layer))
    return layer.return_state or any(state is not None for state in given)
