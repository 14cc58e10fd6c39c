"""input-normalization: a Normalization layer behind the inputs that need one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.records import Declined, FeatureScales, Finding, LayerProfile, Prescription, Profile
from gradscope.treatments import treatment
from gradscope.treatments.support.editing import find_layers
from gradscope.treatments.support.plans import make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.inputs.batches import Batch
    from gradscope.surgery.graph import Surgery

_ID = "input-normalization"
_SOURCES = (
    "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 4.3",
    "Keras, keras.layers.Normalization",
)
# Conventions: inputs within these need no normalisation.
_RMS = (0.3, 3.0)
_OFFSET = 1.0
_UNEVENNESS = 10.0
_SPARSE = 0.5  # share of zeros from which on features are counts, pixels or flags
_CONSTANT = 1e-6  # float32 rounds by 6e-8 of the magnitude: below a few of those is no spread
_NUM_BATCHES, _BATCH_SIZE = 64, 1024
_SCALED = "none of the inputs holds unscaled numbers with features on axis -1"
_LOOKED_UP = ("Masking", "Embedding", "StringLookup", "IntegerLookup", "Hashing")


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Normalise what arrives at the first layers whose features are not scaled."""
    if profile.data.kind == "synthetic":
        return Declined(_ID, "needs data: made-up inputs have no meaningful scale")
    beside = profile.rehearsal.yardstick if profile.rehearsal else None
    if beside is not None and beside.embeds_ids:
        return Declined(_ID, "the inputs are ids, whose scale means nothing")
    first = [layer for layer in profile.layers if layer.features is not None]
    if not first:
        return Declined(_ID, "no layer with weights gets features that could be normalised")
    named = {i for f in findings if f.symptom == "unscaled-inputs" for i in f.layers}
    unscaled = [
        layer
        for layer in first
        if layer.id in named or (layer.features is not None and not _is_scaled(layer.features))
    ]
    if not unscaled:
        largest = max(layer.features.rms for layer in first if layer.features)
        return Declined(_ID, f"the inputs are scaled already (rms {largest:.3g})")
    rows = {layer.id: layer for layer in profile.layers}
    chosen = [layer for layer in unscaled if not _find_preprocessing(layer, rows)]
    if not chosen:
        found = _find_preprocessing(unscaled[0], rows)
        return Declined(_ID, f"{unscaled[0].path} gets its inputs through {found} already")
    chosen = list({layer.path: layer for layer in chosen}.values())
    return make_prescription(
        _ID,
        chosen,
        findings,
        safety="unsafe",
        parameters={"axis": -1},
        rationale=" ".join(map(_describe, chosen)),
        snippet=(
            "normalization = keras.layers.Normalization(axis=-1)\n"
            "normalization.adapt(x_train)\n"
            f"# then put it between the input and {chosen[0].path!r}"
        ),
        sources=_SOURCES,
    )


def _is_scaled(scales: FeatureScales) -> bool:
    even = scales.std_max <= _UNEVENNESS * scales.std_median or scales.zero_fraction >= _SPARSE
    return _RMS[0] <= scales.rms <= _RMS[1] and scales.offset <= _OFFSET and even


def _find_preprocessing(layer: LayerProfile, rows: dict[str, LayerProfile]) -> str | None:
    """The class of a layer on the way from the inputs that scales or looks up, if there is one."""
    if "Normalization" in layer.class_:
        return layer.class_
    waiting = list(layer.inputs)
    seen = set()
    while waiting:
        id = waiting.pop()
        row = rows.get(id)
        if row is None or id in seen:
            continue
        seen.add(id)
        if _prepares(row.class_):
            return row.class_
        waiting += row.inputs
    return None


def _prepares(class_: str) -> bool:
    return "Normalization" in class_ or class_ == "Rescaling" or class_ in _LOOKED_UP


def _describe(layer: LayerProfile) -> str:
    scales = layer.features
    assert scales is not None
    return (
        f"The inputs of {layer.path} have mean {scales.mean:.3g}, rms {scales.rms:.3g} and "
        f"standard deviations from {scales.std_min:.2g} to {scales.std_max:.2g}. With mean 0 and "
        "standard deviation 1 one learning rate suits every feature."
    )


@treatment(
    id=_ID,
    summary="give every input feature mean 0 and standard deviation 1, inside the model",
    why=(
        "Large, tiny or shifted features saturate units and make the loss far steeper in some "
        "directions than in others. With normalised features one learning rate suits all, and the "
        "scaling is part of the model."
    ),
    caution=(
        "Means and standard deviations come from the data given (up to 65,536 samples) and stay "
        "fixed. Weights that were trained on raw inputs no longer fit. In a model of your own code "
        "only what its networks see changes: an autoencoder's targets stay on their scales."
    ),
    rank=15,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated
    from gradscope.inputs.batches import take_batches
    from gradscope.surgery.rebuild import is_graph

    if x is None:
        return Declined(_ID, "needs data: pass the inputs that the model is trained on")
    if is_graph(model) and not model.built:
        return Declined(model.name, "the model is not built: call it on data first")
    insert = _insert_behind_inputs if is_graph(model) else _insert_in_front
    with isolated(model):
        batches, _ = take_batches(
            model, x, None, batch_size=_BATCH_SIZE, num_batches=_NUM_BATCHES, seed=0
        )
        return insert(model, prescription, batches)


def _insert_behind_inputs(
    model: Any, prescription: Prescription, batches: Sequence[Batch]
) -> Surgery | Declined:
    from gradscope.surgery.graph import rebuild

    after_input = {}
    for place in _inputs(model, prescription.layers):
        layer = _normalization([place.of(batch.x) for batch in batches])
        if layer is not None:
            after_input[place.name] = [layer]
    if not after_input:
        return Declined(_ID, _SCALED)
    return rebuild(model, after_input=after_input)


def _insert_in_front(
    model: Any, prescription: Prescription, batches: Sequence[Batch]
) -> Surgery | Declined:
    """In the graphs that a model of its own code holds, in front of what the inputs get to.

    What else its code does with the inputs stays as it is: an autoencoder still has to make them.
    """
    from gradscope.backend.train_step import has_own_call
    from gradscope.surgery.graph import rebuild

    layers = find_layers(model, _ID, prescription.layers)
    if isinstance(layers, Declined):
        return layers
    if not has_own_call(model):
        return Declined(_ID, f"{type(model).__name__} has no call to see its inputs arrive by")
    replace = {}
    for path in prescription.layers:
        layer = _normalization(_compute_arriving(model, layers[path], batches))
        if layer is not None:
            replace[path] = [layer, layers[path]]
    return rebuild(model, replace) if replace else Declined(_ID, _SCALED)


def _compute_arriving(model: Any, layer: Any, batches: Sequence[Batch]) -> list[Any]:
    """What the model gives to one of its layers."""
    from gradscope.backend.isolation import patched
    from gradscope.backend.patches import functions_eager

    found = []
    call = layer.call

    def note(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(inputs)
        return call(inputs, *args, **kwargs)

    with functions_eager(True), patched([(layer, "call", note)]):
        for batch in batches:
            model(batch.x)
    return found


@dataclass(frozen=True, slots=True)
class _Input:
    """An input of the model: its name, and where it is in what the model is given."""

    name: str
    number: int
    key: str | None

    def of(self, x: Any) -> Any:
        import keras

        if isinstance(x, dict):
            return x[self.key] if self.key in x else x.get(self.name)
        return keras.tree.flatten(x)[self.number]


def _inputs(model: Any, paths: Sequence[str]) -> Iterator[_Input]:
    """The inputs of floating point numbers that get to a layer at one of `paths`."""
    import keras

    from gradscope.backend import keras_private as private

    graph = private.graph_inside(model) if isinstance(model, keras.Sequential) else model
    struct = private.inputs_structure(graph)
    keys = {id(t): key for key, t in struct.items()} if isinstance(struct, dict) else {}
    for number, tensor in enumerate(keras.tree.flatten(struct)):
        is_float = keras.backend.is_float_dtype(tensor.dtype)
        has_features = len(tensor.shape) > 1 and tensor.shape[-1] is not None
        if is_float and has_features and _feeds(graph, tensor, paths):
            name = private.maker(tensor).name
            yield _Input(name, number, keys.get(id(tensor)))


def _feeds(graph: Any, tensor: Any, paths: Sequence[str]) -> bool:
    """Whether the tensor gets to a layer at one of `paths`, and to none that scales or looks up."""
    from gradscope.backend.keras_private import graph_nodes

    same = {id(tensor)}  # tensors that no weights have changed
    reached = False
    for node in graph_nodes(graph):
        if node.is_input or not any(id(t) in same for t in node.input_tensors):
            continue
        operation = node.operation
        if _prepares(type(operation).__name__):
            return False
        name = operation.name
        if any(path == name or path.startswith(f"{name}/") for path in paths):
            reached = True
        elif not getattr(operation, "weights", ()):
            same.update(id(t) for t in node.outputs)
    return reached


def _normalization(arrays: Sequence[Any]) -> Any:
    """The layer for one input; None where the features are scaled or are no finite numbers."""
    import keras

    from gradscope.measure.feature_stats import FeatureSums

    sums = FeatureSums()
    for array in arrays:
        if array is None or not hasattr(array, "shape"):
            return None
        sums.add(np.asarray(array))
    scales = sums.scales()
    if scales is None or _is_scaled(scales) or not scales.std_max:
        return None
    means, variances = _moments(sums.means, sums.squared_deviations / sums.count, scales)
    return keras.layers.Normalization(
        axis=-1, mean=means.astype("float32"), variance=variances.astype("float32")
    )


def _moments(
    means: np.ndarray, variances: np.ndarray, scales: FeatureScales
) -> tuple[np.ndarray, np.ndarray]:
    """What to normalise each feature by.

    Features that are mostly zero share one mean and variance: one that is rarely on would be
    blown up by its own. A feature that is constant in the data is divided by the median spread of
    the others, so that it stays moderate where it does change.
    """
    if scales.zero_fraction >= _SPARSE:
        mean = float(means.mean())
        variance = float((variances + means**2).mean()) - mean**2
        return np.full_like(means, mean), np.full_like(variances, variance)
    constant = np.sqrt(variances) <= _CONSTANT * np.abs(means)
    return means, np.where(constant, scales.std_median**2, variances)
