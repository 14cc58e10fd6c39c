"""forget-gate-bias: start the gates of an LSTM or GRU so that they hold on to the state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.treatments import treatment
from gradscope.treatments.support.plans import find_affected, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "forget-gate-bias"
_SOURCES = (
    "Gers, Schmidhuber, Cummins 2000, Learning to forget, doi:10.1162/089976600300015015",
    "Jozefowicz, Zaremba, Sutskever 2015, An empirical exploration of recurrent network "
    "architectures, section 2.2: forget bias 1",
    "Tallec and Ollivier 2018, Can recurrent neural networks warp time?, arXiv:1804.11188, "
    "equations 15 and 16",
)
_GATED = ("LSTM", "GRU")
_THROUGH_TIME = {"vanishing-through-time"}
_STUCK = {"saturated-gates"}


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Memories up to the measured length; for stuck gates a start from scratch."""
    gated = [layer for layer in find_affected(profile, findings) if layer.class_ in _GATED]
    if not gated:
        return Declined(_ID, "no LSTM or GRU among the affected layers")
    symptoms = {finding.symptom for finding in findings}
    steps = max(_num_steps(layer) for layer in gated)
    long = bool(symptoms & _THROUGH_TIME) and steps > 2
    redraw = bool(symptoms & _STUCK)
    if not long and all(layer.class_ == "GRU" for layer in gated) and not redraw:
        return Declined(_ID, "a GRU has no forget gate, and no long memory is asked for")
    return make_prescription(
        _ID,
        gated,
        findings,
        safety="unsafe",
        parameters={"num_steps": steps if long else 0, "redraw": redraw},
        rationale=_rationale(gated, steps, long, redraw),
        snippet=_snippet(gated, steps if long else 0, redraw),
        sources=_SOURCES,
    )


def _num_steps(layer: LayerProfile) -> int:
    return len(layer.timesteps.recurrent_gain) + 1 if layer.timesteps else 0


def _rationale(layers: Sequence[LayerProfile], steps: int, long: bool, redraw: bool) -> str:
    parts = []
    if redraw:
        stuck = max(layer.gate_saturated_fraction or 0.0 for layer in layers)
        parts.append(f"{stuck:.0%} of the gates are stuck; new kernels set them free.")
    if long:
        parts.append(
            f"Biases from 0 to log({steps - 1}) = {np.log(steps - 1):.1f} give the units memories "
            f"of 1 to {steps - 1} steps, the length of the sequence."
        )
    else:
        parts.append("A forget bias of 1 lets the state pass until the gates have learned more.")
    return " ".join(parts)


def _snippet(layers: Sequence[LayerProfile], steps: int, redraw: bool) -> str:
    lines = ["import numpy as np"]
    for layer in layers:
        lines += [
            f"cell = {_write_access(layer.path)}.cell",
            "units, bias = cell.units, cell.bias.numpy()",
        ]
        if redraw:
            lines += [
                "cell.kernel.assign(keras.initializers.GlorotUniform()(cell.kernel.shape))",
                "orthogonal = keras.initializers.Orthogonal()",
                "cell.recurrent_kernel.assign(orthogonal(cell.recurrent_kernel.shape))",
                "bias[...] = 0.0",
            ]
        if steps:
            lines.append(f"memories = np.log(np.linspace(1, {steps - 1}, units))")
        memories = "memories" if steps else "1.0"
        if layer.class_ == "LSTM":
            lines.append(f"bias[units : 2 * units] = {memories}")
            lines += ["bias[:units] = -memories"] if steps else []
        elif steps:
            lines.append("(bias if bias.ndim == 1 else bias[0])[:units] = memories")
        lines.append("cell.bias.assign(bias)")
    return "\n".join(lines)


def _write_access(path: str) -> str:
    """How a script reaches the layer, also inside a Bidirectional or a nested model."""
    code = "model"
    for name in path.split("/"):
        way = name.split("_")[0]
        inside = code != "model" and way in ("forward", "backward")
        code += f".{way}_layer" if inside else f".get_layer({name!r})"
    return code


@treatment(
    id=_ID,
    summary="set the gate biases of an LSTM or GRU to remember, and reset stuck gates",
    why=(
        "A gate with bias b keeps a fraction sigmoid(b) of the state at every step: half of it at "
        "0, which leaves nothing after 20 steps. With a bias of log(T) a unit remembers for about "
        "T steps from the start, and the gradient reaches as far back."
    ),
    caution=(
        "What the layer's gates have learned is overwritten: their biases, and all kernels if "
        "gates are stuck. Units that start with long memories forget slowly."
    ),
    rank=40,
    alters="weights",
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated
    from gradscope.surgery.graph import copy_model

    copy = copy_model(model)
    if isinstance(copy, Declined):
        return copy
    with isolated(model):
        return _restart(copy, prescription)


def _restart(copy: Any, prescription: Prescription) -> Surgery | Declined:
    """The copy with the gates of the prescribed layers at their new start."""
    from gradscope.backend.sites import sites
    from gradscope.treatments.support.compiling import finish_edit

    places = {site.path: site.layer for site in sites(copy)}
    num_steps = int(prescription.parameters["num_steps"])
    redraw = bool(prescription.parameters["redraw"])
    changed = False
    for path in prescription.layers:
        layer: Any = places.get(path)
        if type(layer).__name__ not in _GATED:
            return Declined(path, "is no LSTM or GRU")
        if layer.cell.bias is None:
            return Declined(path, "has no biases (use_bias=False)")
        before = np.array(layer.cell.bias)
        if redraw:
            _redraw(layer.cell)
        bias = _biases(layer.cell, num_steps, redraw)
        layer.cell.bias.assign(bias)
        changed = changed or redraw or not np.array_equal(bias, before)
    if not changed:
        return Declined(_ID, "the biases have these values already")
    return finish_edit(copy, prescription.layers)


def _redraw(cell: Any) -> None:
    """New kernels; the cell's configuration says from now on what they are drawn from."""
    import keras

    cell.kernel_initializer = keras.initializers.GlorotUniform()
    cell.recurrent_initializer = keras.initializers.Orthogonal()
    cell.bias_initializer = keras.initializers.Zeros()
    for weight, start in (
        (cell.kernel, cell.kernel_initializer),
        (cell.recurrent_kernel, cell.recurrent_initializer),
    ):
        weight.assign(start(weight.shape, dtype=weight.dtype))


def _biases(cell: Any, num_steps: int, redraw: bool) -> np.ndarray:
    """The cell's biases with those of the gates that hold the state at their new values."""
    bias = np.array(cell.bias)
    if redraw:
        bias[...] = 0.0
    units = cell.units
    # Evenly spread where the paper draws at random: all lengths are there, whatever the seed.
    memories = np.log(np.linspace(1.0, num_steps - 1.0, units)) if num_steps else np.ones(units)
    if type(cell).__name__ == "LSTMCell":  # gates in the order input, forget, cell, output
        bias[units : 2 * units] = memories
        if num_steps:
            bias[:units] = -memories
    elif num_steps:  # update, reset, candidate; with reset_after a row for the input comes first
        bias[..., :units] = 0.0
        (bias if bias.ndim == 1 else bias[0])[:units] = memories
    return bias
