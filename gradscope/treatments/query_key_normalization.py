"""query-key-normalization: queries and keys of one size, so that scores stay in bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.signals.attention import attention_path, score_spread
from gradscope.signals.common import names
from gradscope.treatments import treatment
from gradscope.treatments.support.normalizing import MIN_FEATURES
from gradscope.treatments.support.plans import find_affected, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "query-key-normalization"
_SOURCES = (
    "Henry et al. 2020, Query-key normalization for transformers, arXiv:2010.04245, section 3",
    "Dehghani et al. 2023, Scaling vision transformers to 22 billion parameters, "
    "arXiv:2302.05442, section 2",
    "Zhang, Sennrich 2019, Root mean square layer normalization, arXiv:1910.07467, equation 4",
)
_SNIPPET = '''\
class NormalizedAttention(keras.layers.MultiHeadAttention):
    """Attention whose queries and keys have one size; of GroupQueryAttention in the same way."""

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        self.query_normalization = keras.layers.RMSNormalization(dtype=self.dtype_policy)
        self.key_normalization = keras.layers.RMSNormalization(dtype=self.dtype_policy)
        for normalization in (self.query_normalization, self.key_normalization):
            normalization.build((None, self.key_dim))

    def _compute_attention(self, query, key, value, *args, **kwargs):
        query, key = self.query_normalization(query), self.key_normalization(key)
        return super()._compute_attention(query, key, value, *args, **kwargs)'''


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """RMSNormalization on the queries and keys of the affected layers that project them."""
    affected = [layer for layer in find_affected(profile, findings) if layer.attention]
    projecting = [layer for layer in affected if attention_path(layer) != layer.path]
    if not projecting:
        return Declined(_ID, "no affected layer is one of Keras's that projects queries and keys")
    layers = [
        layer for layer in projecting if ((layer.output_shape or ())[-1] or 0) >= MIN_FEATURES
    ]
    if not layers:
        where = names([attention_path(layer) for layer in projecting])
        return Declined(_ID, f"the heads of {where} have fewer than {MIN_FEATURES} features each")
    paths = [attention_path(layer) for layer in layers]
    spread = max((score_spread(layer.attention) or 0.0) for layer in layers if layer.attention)
    return make_prescription(
        _ID,
        layers,
        findings,
        safety="unsafe",
        parameters={"attention": paths},
        rationale=(
            f"A query's scores have a standard deviation of up to {spread:.3g} in {names(paths)}. "
            "With queries and keys of one size it starts near 1, and does not grow with their "
            "kernels."
        ),
        snippet=_SNIPPET,
        sources=_SOURCES,
    )


@treatment(
    id=_ID,
    summary="normalise queries and keys, so that attention scores stay in bounds",
    why=(
        "RMSNormalization gives the queries and keys of each head one size, which is learned. "
        "Scores then start with a spread of about 1 whatever the kernels are, and training cannot "
        "drive them apart by larger and larger kernels."
    ),
    caution=(
        "The model's function changes. The attention becomes a model of Keras's layers and "
        "operations, under its name and with its weights."
    ),
    rank=30,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    import keras

    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import rebuild

    layers = {site.path: site.layer for site in sites(model)}
    rewrites = {}
    for path in prescription.parameters["attention"]:
        layer: Any = layers.get(path)
        if type(layer) not in (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention):
            return Declined(_ID, f"the model has no attention layer of Keras's at {path!r}")
        if layer.dropout:
            return Declined(_ID, f"{path} drops probabilities, which one operation cannot")
        if layer.get_config().get("sliding_window"):
            return Declined(_ID, f"{path} looks at a window of the sequence")
        rewrites[path] = partial(_attend, layer, {})
    return rebuild(model, rewrites=rewrites)


def _attend(
    layer: Any,
    written: dict[tuple[int, bool], Any],
    copy_of: Callable[[Any], Any],
    query: Any,
    value: Any,
    key: Any = None,
    attention_mask: Any = None,
    use_causal_mask: bool = False,
    training: Any = None,
    **others: Any,
) -> Any:
    """A call of an attention layer, by the model that takes its place (`written`, made once)."""
    from gradscope.backend.keras_private import mask_of

    asked = [name for name, given in others.items() if given is not None and given is not False]
    if asked:
        raise ValueError(f"it is called with {asked[0]}")
    given = [query, value, value if key is None else key]
    if any(mask_of(tensor) is not None for tensor in given):
        raise ValueError("a mask comes with its sequences")
    given += [] if attention_mask is None else [attention_mask]
    way = (len(given), use_causal_mask)
    if not written:
        written[way] = _write(layer, copy_of, given, use_causal_mask)
    if way not in written:
        raise ValueError("it is called with a mask and without")
    return written[way](given)


def _write(layer: Any, copy_of: Callable[[Any], Any], given: Sequence[Any], causal: bool) -> Any:
    """The attention layer as a model of layers and operations."""
    import keras

    from gradscope.backend.keras_private import held_layers

    parts = {part.name: part for part in held_layers(layer)}
    inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in given]
    query, value, key, *masks = inputs

    def project(tensor: Any, name: str) -> Any:
        projected = copy_of(parts[name])(tensor)
        if len(projected.shape) != 4:
            raise ValueError("it attends over several axes")
        return projected

    def normalize(tensor: Any, name: str) -> Any:
        norm = keras.layers.RMSNormalization(
            dtype=layer.dtype_policy, name=f"{name}_normalization", trainable=layer.trainable
        )
        return norm(project(tensor, name))

    queries, keys, values = (
        normalize(query, "query"),
        normalize(key, "key"),
        project(value, "value"),
    )
    attended = keras.ops.dot_product_attention(
        queries,
        *(_for_each_query(part, queries.shape[2]) for part in (keys, values)),
        mask=_by_head(masks[0]) if masks else None,
        is_causal=causal,
    )
    if "gate" in parts:
        attended = keras.ops.multiply(attended, project(query, "gate"))
    outputs = copy_of(parts["attention_output"])(attended)
    known = layer.compute_output_shape(*(tensor.shape for tensor in (query, value, key)))[1:]
    if None not in known and outputs.shape[1:] != known:  # the projections forget the positions
        outputs = keras.layers.Reshape(known, dtype=layer.dtype_policy)(outputs)
    return keras.Model(inputs, outputs, name=layer.name)


def _for_each_query(part: Any, num_heads: int) -> Any:
    """Keys or values, of which several heads of queries may share one."""
    from keras import ops

    shared = num_heads // part.shape[2]
    return part if shared == 1 else ops.repeat(part, shared, axis=2)


def _by_head(mask: Any) -> Any:
    """A mask of (samples, queries, keys), for all heads."""
    from keras import ops

    while len(mask.shape) < 4:
        mask = ops.expand_dims(mask, -3)
    return ops.cast(mask, "bool")
