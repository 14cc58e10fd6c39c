"""token-embedding: an Embedding in front of the layer that takes ids as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import DataTensor, Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.treatments import treatment
from gradscope.treatments.support.editing import find_layers
from gradscope.treatments.support.plans import find_affected, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "token-embedding"
_SOURCES = (
    "Bengio, Ducharme, Vincent, Jauvin 2003, A neural probabilistic language model, section 2",
    "Iyyer et al. 2015, Deep unordered composition rivals syntactic methods, section 2.1",
    "Keras, keras.layers.Embedding",
)
_UNITS = 32
_STDDEV = 0.1  # the mean over a sequence shrinks the usual start by the root of its length
_MOST_IDS = 1_000_000
_MOST_PLACES = 8  # with few, as a user and an item, each place has a meaning of its own
_OF_SEQUENCES = ("SimpleRNN", "GRU", "LSTM", "RNN", "Bidirectional", "Conv1D")


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """In front of the first layer of a model with one input of ids."""
    tensors = [tensor for tensor in profile.data.tensors if tensor.role == "x"]
    if len(tensors) != 1:
        return Declined(_ID, "needs data with one input: which of several are ids is up to you")
    found = _read_ids(tensors[0])
    if isinstance(found, str):
        return Declined(_ID, found)
    length, num_ids = found
    named = [layer for layer in find_affected(profile, findings) if layer.weights]
    first = min(named, key=lambda layer: layer.depth, default=None)
    if first is None:
        return Declined(_ID, "no layer with weights takes the ids")
    looks_up = next((layer.path for layer in profile.layers if layer.class_ == "Embedding"), None)
    if looks_up is not None:
        return Declined(_ID, f"{looks_up} embeds ids already")
    outer = _find_outer(first)
    if outer is None:
        return Declined(_ID, f"{first.path} is a {first.class_}: put an Embedding in front by hand")
    path, class_ = outer
    return make_prescription(
        _ID,
        [first],
        findings,
        safety="unsafe",
        parameters={"layer": path, "num_ids": num_ids, "length": length, "units": _UNITS},
        rationale=(
            f"{tensors[0].name} holds whole numbers up to {num_ids - 1:,}, of which neither order "
            "nor distance means anything if they are ids. An embedding learns a vector for each."
        ),
        snippet=_snippet(path, class_, num_ids, length),
        sources=_SOURCES,
    )


def _read_ids(tensor: DataTensor) -> tuple[int, int] | str:
    """(ids a sample, size of the vocabulary), or why there are none."""
    if tensor.minimum is None or tensor.maximum is None or not tensor.is_whole:
        return "the inputs are no whole numbers"
    if tensor.minimum < 0:
        return "ids are never negative, and some inputs are"
    length = math.prod(tensor.shape)
    if length != max(tensor.shape, default=0) or length < 2:
        return "the inputs are no rows of ids"
    if tensor.maximum >= _MOST_IDS:
        return f"there are ids of {tensor.maximum:,.0f}: number them from 0 first"
    return length, int(tensor.maximum) + 1


def _find_outer(first: LayerProfile) -> tuple[str, str] | None:
    """Path and class of the layer to stand behind the embedding; of two directions, of both."""
    outer, _, name = first.path.rpartition("/")
    if first.class_ in ("SimpleRNN", "GRU", "LSTM", "RNN") and name.startswith(("forward", "back")):
        return outer, "Bidirectional"
    known = first.class_ in (*_OF_SEQUENCES, "Dense")
    return (first.path, first.class_) if known else None


def _snippet(path: str, class_: str, num_ids: int, length: int) -> str:
    takes_sequences = class_ in _OF_SEQUENCES
    behind = "Flatten" if length <= _MOST_PLACES else "GlobalAveragePooling1D"
    lines = [
        f"# in front of {path!r}, for x of shape (samples, {length})",
        f"embedding = keras.layers.Embedding({num_ids}, {_UNITS})",
    ]
    if not takes_sequences:
        lines.append(f"pooling = keras.layers.{behind}()  # behind the embedding")
    return "\n".join(lines)


@treatment(
    id=_ID,
    summary="look ids up in an Embedding in front of the layer that takes them as numbers",
    why=(
        "An id is a name. An embedding learns a vector for each, so that a layer behind it sees "
        "what an id stands for and not how large its number is."
    ),
    caution=(
        "The layer that took the ids starts from scratch, with other inputs. A Dense layer sees "
        "the mean of a sample's vectors, in which their order is lost. Ids above those in the data "
        "given have no vector."
    ),
    rank=14,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    import keras

    from gradscope.backend.isolation import isolated
    from gradscope.surgery.graph import rebuild

    wanted = prescription.parameters
    found = find_layers(model, _ID, [wanted["layer"]])
    if isinstance(found, Declined):
        return found
    layer = found[wanted["layer"]]
    with isolated(model):
        embedding = keras.layers.Embedding(
            wanted["num_ids"],
            wanted["units"],
            embeddings_initializer=keras.initializers.RandomNormal(stddev=_STDDEV),
        )
        chain = [keras.layers.Reshape((wanted["length"],)), embedding]
        if type(layer).__name__ not in _OF_SEQUENCES:
            few = wanted["length"] <= _MOST_PLACES
            chain.append(keras.layers.Flatten() if few else keras.layers.GlobalAveragePooling1D())
        chain.append(type(layer).from_config(_forget_shapes(layer.get_config())))
        return rebuild(model, {wanted["layer"]: chain})


def _forget_shapes(config: Any) -> Any:
    """A config whose inner layers, as those of a Bidirectional, are not built for old inputs."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_forget_shapes, config))
    if not isinstance(config, dict):
        return config
    return {k: _forget_shapes(value) for k, value in config.items() if k != "build_config"}
