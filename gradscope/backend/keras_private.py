"""The private names of Keras: each function says in its capability what is off without it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from gradscope.backend.capabilities import Capability, Unavailable, needing

_SINCE = "Keras 3.12"
_GLOBALS = "keras.src.backend.common.global_state"
_SEEDS = "keras.src.random.seed_generator"
_LOSS = "keras.src.trainers.compile_utils.CompileLoss"
_RNN = "keras.src.backend.rnn"
_FUNCTIONAL = "keras.src.models.functional.Functional"
_LIKE_FUNCTIONAL = "keras.src.models.functional.functional_like_constructor"
_TRAINER = "keras.src.backend.tensorflow.trainer.TensorFlowTrainer"
_SAVEABLE = "keras.src.saving.keras_saveable.KerasSaveable"
_TRACKER = "keras.src.utils.tracking.Tracker"
_SAFE_MODE = "keras.src.saving.serialization_lib.SafeModeScope"
_ZIP_READER = "keras.src.saving.saving_lib.load_model"
_HDF5_READER = "keras.src.legacy.saving.legacy_h5_format.load_model_from_hdf5"


@functools.cache
def _tiny() -> keras.Model:
    """A compiled functional model to try things on."""
    inputs = keras.Input((2,), name="in")
    model = keras.Model(inputs, keras.layers.Dense(1, name="out")(inputs), name="tiny")
    model.compile(keras.optimizers.AdamW(weight_decay=0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


# Layers and variables


def _probe_layers() -> None:
    model = _tiny()
    if len(flat_layers(model)) != 3 or len(own_weights(model.layers[1])) != 2:
        raise RuntimeError("the layers inside a model are not those that it was made of")


LAYERS = Capability(
    "layers",
    feature="Examining a model",
    needs=("Layer._flatten_layers", "Layer._layers", "Layer._trainable_variables"),
    since=_SINCE,
    without="no model can be examined, watched or treated",
    probe=_probe_layers,
)


@needing(LAYERS)
def flat_layers(layer: Any) -> list[Any]:
    """The layer and all layers inside it, outer ones first."""
    return list(layer._flatten_layers())


@needing(LAYERS)
def own_weights(layer: Any) -> list[Any]:
    """The weights that the layer itself made, not those of the layers inside it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


@needing(LAYERS)
def own_trainable_weights(layer: Any) -> list[Any]:
    """Those of `own_weights` that were made to be trained, frozen or not."""
    return list(layer._trainable_variables)


def held_layers(layer: Any) -> list[Any]:
    """The layers that a layer holds itself; none of a graph operation."""
    if LAYERS.missing:
        raise Unavailable(LAYERS)
    return list(getattr(layer, "_layers", ()))


def seed_states(layer: Any) -> list[Any]:
    """The states of the seed generators that the layer holds."""
    return [generator.state for generator in getattr(layer, "_seed_generators", ())]


RAW_VARIABLES = Capability(
    "raw-variables",
    feature="Reading weights as they are stored",
    needs=("Variable._value",),
    since=_SINCE,
    without="weights are read through Keras, which takes longer",
    probe=lambda: _tiny().weights[0]._value.handle,
)


def raw(variable: Any) -> Any:
    """TensorFlow's variable inside of Keras's; anything else as it is."""
    if RAW_VARIABLES.missing:
        return variable.value if isinstance(variable, keras.Variable) else variable
    return getattr(variable, "_value", variable)


def rename(variable: Any, name: str | None, path: str) -> None:
    """Give a variable another name; they are only shown, and told apart by Muon."""
    if name is not None:
        variable._name = name
    variable._path = path


def is_default(method: Any) -> bool:
    """Whether a layer's `build` or the like is Keras's own, which does nothing (`_is_default`)."""
    return bool(getattr(method, "_is_default", False))


def training_options(layer: Any, training: bool | None) -> dict[str, Any]:
    """The argument `training` for a layer whose `call` has it."""
    takes = "training" in inspect.signature(layer.call).parameters
    return {"training": training} if takes else {}


def recomputes(layer: Any) -> bool:
    """Whether Keras runs the layer again on the way back (`_remat_mode`)."""
    return vars(layer).get("_remat_mode") is not None


WITHOUT_RECOMPUTATION = ("_remat_mode", None)

# What Keras hangs on tensors: a copy without it loses its mask, and a loss that computes from
# logits (softmax, sigmoid) would quietly become the less exact one.
TENSOR_MARKS = ("_keras_mask", "_keras_logits")


def mask_of(tensor: Any) -> Any:
    """The mask that a tensor carries, None where it has none."""
    return getattr(tensor, "_keras_mask", None)


def has_logits(tensor: Any) -> bool:
    """Whether a tensor of probabilities knows what they were computed from."""
    return hasattr(tensor, "_keras_logits")


# Random numbers and what all models share


GLOBAL_STATE = Capability(
    "global-state",
    feature="A trial, whose copies must see the same random numbers,",
    needs=(
        f"{_GLOBALS}.get_global_attribute",
        f"{_GLOBALS}.set_global_attribute",
        f"{_SEEDS}.python_random",
    ),
    since=_SINCE,
    without="trials are declined, and after an analysis Keras's counters behind names such as "
    "dense_1 and its global seed generator stay where the analysis left them",
)
_get_global = GLOBAL_STATE[f"{_GLOBALS}.get_global_attribute"]
_put_global = GLOBAL_STATE[f"{_GLOBALS}.set_global_attribute"]

NAME_COUNTERS = "object_name_uids"  # behind "dense_1"
CALL_CONTEXT = "current_call_ctx"
SEED_GENERATOR = "global_seed_generator"
SEED = "global_random_seed"


def global_attribute(name: str) -> Any:
    """What Keras keeps for the whole process under a name; None where it is not set."""
    return None if GLOBAL_STATE.missing else _get_global(name)


def set_global_attribute(name: str, value: Any) -> None:
    """Set it; None takes it away.

    Through Keras's own function: `clear_session` puts another tracker in the old one's place.
    """
    if not GLOBAL_STATE.missing:
        _put_global(name, value)


@needing(GLOBAL_STATE)
def seed_source(generator: Any) -> tuple[Any, str, Any]:
    """What to set so that new seed generators draw their seeds from `generator`."""
    return sys.modules[_SEEDS], "python_random", generator


# The compiled loss and the optimizer


def _probe_loss() -> None:
    model = _tiny()
    if compiled_loss(model) != ("mse", None) or not fresh_loss(model, "mse", None):
        raise RuntimeError("the compiled loss is not the one that compile() was given")


COMPILED_LOSS = Capability(
    "compiled-loss",
    feature="Measuring by a compiled loss, or by one of your choice,",
    needs=(_LOSS, "Model._compile_loss", "Model._compile_metrics", "CompileLoss._user_loss"),
    since=_SINCE,
    without="no model can be analyzed; fit is watched, but symptoms that ask for the kind of the "
    "loss are not examined",
    probe=_probe_loss,
)
_compile_loss_class = COMPILED_LOSS[_LOSS]


class Loss(NamedTuple):
    """What `compile` was given."""

    loss: Any
    weights: Any


@needing(COMPILED_LOSS)
def compiled_loss(model: Any) -> Loss | None:
    """The loss that the model was compiled with; None where it has none."""
    held = getattr(model, "_compile_loss", None)
    return None if held is None else Loss(held._user_loss, held._user_loss_weights)


@needing(COMPILED_LOSS)
def fresh_loss(model: Any, loss: Any, weights: Any) -> list[tuple[Any, str, Any]]:
    """What to set so that the model is measured by `loss`, and its own loss stays as it is."""
    made = _compile_loss_class(loss, weights, output_names=getattr(model, "output_names", None))
    return [(model, "_compile_loss", made)]


def user_metrics(model: Any) -> Any:
    """The metrics that `compile` was given, nested as they were."""
    return getattr(model, "_user_metrics", [])


@needing(COMPILED_LOSS)
def find_measuring_settings(model: Any) -> list[tuple[Any, str, Any]]:
    """What to set so that a step leaves the model's metrics alone."""
    return [(model, "_compile_metrics", None)]


def drop_metrics(copy: Any) -> None:
    """Take the metrics off a copy for good: they cost time at every step."""
    for target, name, value in find_measuring_settings(copy):
        setattr(target, name, value)


def compute_loss(model: Any, x: Any, y: Any, y_pred: Any, weight: Any, *, training: bool) -> Any:
    """`model.compute_loss`, which before Keras 3.3 had no argument `training`."""
    takes = "training" in inspect.signature(model.compute_loss).parameters
    more = {"training": training} if takes else {}
    return model.compute_loss(x, y, y_pred, weight, **more)


def _probe_settings() -> None:
    if (compile_settings(_tiny()) or {}).get("loss") != "mse":
        raise RuntimeError("a compiled model does not tell what compile() was given")


COMPILE_SETTINGS = Capability(
    "compile-settings",
    feature="Compiling a copy like the original",
    needs=("Model._compile_config",),
    since=_SINCE,
    without="copies of compiled models are declined, and with them treatments and trials",
    probe=_probe_settings,
)


def compile_settings(model: Any) -> dict[str, Any] | None:
    """The objects that compile() was given; None of a model that is not compiled."""
    return _held_settings(model) if model.compiled else None


@needing(COMPILE_SETTINGS)
def _held_settings(model: Any) -> dict[str, Any] | None:
    held = model._compile_config
    return None if held is None else dict(held.config)


def _probe_optimizer() -> None:
    optimizer = _tiny().optimizer
    optimizer._clip_gradients([tf.constant([1.0])])
    optimizer._use_weight_decay(_tiny().weights[0])
    optimizer._var_key(_tiny().weights[0])
    if len(updated_variables(optimizer)) != 2 or rate_variable(optimizer) is None:
        raise RuntimeError("an optimizer does not tell what it updates, and how fast")
    num_updates(optimizer)


OPTIMIZERS = Capability(
    "optimizers",
    feature="Working out what an optimizer would change",
    needs=(
        "Optimizer._clip_gradients",
        "Optimizer._use_weight_decay",
        "Optimizer._var_key",
        "Optimizer._trainable_variables",
        "Optimizer._iterations",
        "Optimizer._learning_rate",
    ),
    since=_SINCE,
    without="the size of updates is not measured, and what has an optimizer's state is not copied",
    probe=_probe_optimizer,
)
_DECAY_RULES = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")


@needing(OPTIMIZERS)
def updated_variables(optimizer: Any) -> list[Any]:
    """The variables that a built optimizer updates, in its own order."""
    return list(optimizer._trainable_variables)


@needing(OPTIMIZERS)
def num_updates(optimizer: Any) -> int:
    """How often it was applied, each accumulated gradient counted."""
    return int(optimizer._iterations)


@needing(OPTIMIZERS)
def learning_rate(optimizer: Any) -> Any:
    """The variable or the schedule behind `optimizer.learning_rate`."""
    return optimizer._learning_rate


def rate_variable(optimizer: Any) -> Any:
    """The variable that holds the learning rate; None where it follows a schedule, or is unknown.

    Not of a LossScaleOptimizer: see `optimizers.inner`.
    """
    held = None if OPTIMIZERS.missing else getattr(optimizer, "_learning_rate", None)
    return held if isinstance(held, keras.Variable) else None


@needing(OPTIMIZERS)
def clip(optimizer: Any, gradients: list[Any]) -> list[Any]:
    """Dense gradients, clipped as the optimizer would."""
    return list(optimizer._clip_gradients(gradients))


@needing(OPTIMIZERS)
def copy_decay_rules(source: Any, target: Any, moved: dict[int, Any] | None = None) -> None:
    """Exclude from weight decay what `source` excludes.

    Args:
        moved: id of each variable -> its copy, where `target` updates copies.
    """
    excluded, pattern = (getattr(source, name, None) for name in _DECAY_RULES)
    if excluded and moved is not None:  # ids of variables, in no config
        excluded = {id(moved[key]) for key in excluded if key in moved}
    for name, value in zip(_DECAY_RULES, (excluded, pattern), strict=True):
        if value:
            setattr(target, name, value)


@needing(OPTIMIZERS)
def decays(optimizer: Any, variable: Any) -> bool:
    """Whether weight decay applies to a variable; the optimizer keeps its answer."""
    return bool(optimizer._use_weight_decay(variable))


@needing(OPTIMIZERS)
def exclude_from_decay(optimizer: Any, variables: Sequence[Any]) -> None:
    """Have weight decay pass over variables of an optimizer that is built already."""
    optimizer._exclude_from_weight_decay = {optimizer._var_key(v) for v in variables}


# Graphs of calls


def _probe_graph() -> None:
    model = _tiny()
    nodes = graph_nodes(model)
    name = maker(model.outputs[0]).name
    if len(nodes) != 2 or name != "out" or not is_graph_class(model) or not is_functional(model):
        raise RuntimeError("the graph of a functional model is not found")
    _ = inputs_structure(model), outputs_structure(model), calls_of(model.layers[1])
    if graph_inside(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])) is None:
        raise RuntimeError("the graph of a Sequential model is not found")


GRAPHS = Capability(
    "graphs",
    feature="Rewriting the graph of a model",
    needs=(
        _FUNCTIONAL,
        _LIKE_FUNCTIONAL,
        "Functional._nodes_by_depth",
        "Functional._operations",
        "Functional._inputs_struct",
        "Functional._outputs_struct",
        "Sequential._functional",
        "Operation._inbound_nodes",
        "KerasTensor._keras_history",
    ),
    since=_SINCE,
    without="models are not copied or rewritten, so treatments and trials are declined; operations "
    "between the layers of a functional model are not measured",
    probe=_probe_graph,
)
_functional = GRAPHS[_FUNCTIONAL]
_like_functional = GRAPHS[_LIKE_FUNCTIONAL]
NODES = ("_inbound_nodes", "_outbound_nodes")  # the calls that an operation has had


def is_graph_class(layer: Any) -> bool:
    """Whether a layer is a functional model, whatever its `call` does; False where unknown."""
    return not GRAPHS.missing and isinstance(layer, _functional)


@needing(GRAPHS)
def is_functional(layer: Any) -> bool:
    """A model whose graph says all that it does."""
    kind = type(layer)
    usual = isinstance(layer, _functional) and kind.call is _functional.call
    return bool(usual and _like_functional(kind))


def held_operations(layer: Any) -> list[Any]:
    """The layers and operations of a functional model, in the order of the forward pass."""
    return [] if GRAPHS.missing else list(vars(layer).get("_operations", ()))


@needing(GRAPHS)
def graph_inside(sequential: Any) -> Any:
    """The functional model inside a Sequential one; None of one that is not built."""
    return sequential._functional


@needing(GRAPHS)
def stack_of(sequential: Any) -> list[Any]:
    """The layers of a Sequential model and its InputLayer."""
    return list(sequential._layers)


@needing(GRAPHS)
def graph_nodes(graph: Any) -> list[Any]:
    """The calls of a functional model, in forward order, its inputs included."""
    by_depth = graph._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


@needing(GRAPHS)
def inputs_structure(model: Any) -> Any:
    """The inputs of a functional model, nested as it takes them."""
    return model._inputs_struct


@needing(GRAPHS)
def outputs_structure(model: Any) -> Any:
    """The outputs of a functional model, nested as it returns them."""
    return model._outputs_struct


@needing(GRAPHS)
def calls_of(operation: Any) -> list[Any]:
    """The calls of a layer or an operation on symbols, in all graphs."""
    return list(operation._inbound_nodes)


@needing(GRAPHS)
def maker(tensor: Any) -> Any:
    """The layer or operation that made a symbolic tensor."""
    return tensor._keras_history.operation


@needing(GRAPHS)
def making_call(tensor: Any) -> tuple[Any, Any, int]:
    """What made a symbolic tensor: the operation, its call, and which output of the call it is."""
    operation, number, place = tensor._keras_history
    return operation, operation._inbound_nodes[number], place


def is_symbolic(tensor: Any) -> bool:
    """Whether `maker` can be told of it."""
    return not GRAPHS.missing and hasattr(tensor, "_keras_history")


# Copies of layers whose config does not tell how to make them


def _probe_copies() -> None:
    own = vars(_tiny())
    needed = (*_COMPILED_SINCE_3_12, "_metrics", "_lock", CHECKPOINTED)
    missing = [name for name in needed if name not in own]
    if missing:
        raise RuntimeError(f"a compiled model has no {missing[0]}")


DEEP_COPIES = Capability(
    "deep-copies",
    feature="Copying a layer attribute by attribute",
    needs=(_TRAINER, _SAVEABLE, _TRACKER, "Model._loss_tracker", "Model._metrics", "Model._lock"),
    since=_SINCE,
    without="models that cannot be made again from their config (get_config) are not copied, so "
    "their treatments and trials are declined",
    probe=_probe_copies,
)
Trainer = DEEP_COPIES[_TRAINER]
Saveable = DEEP_COPIES[_SAVEABLE]
Tracker = DEEP_COPIES[_TRACKER]

# What `compile` and `fit` leave on a model, and what they do from Keras 3.13 on.
_COMPILED_SINCE_3_12 = (
    "_compile_config", "_compile_loss", "_compile_metrics", "_loss_tracker", "loss", "optimizer",
    "predict_function", "test_function", "train_function",
)  # fmt: skip
COMPILED = (*_COMPILED_SINCE_3_12, "_compiled_trainable_state")
CHECKPOINTED = "_self_unconditional_checkpoint_dependencies"
_CHECKPOINTED_NAMES = "_self_unconditional_dependency_names"


@needing(DEEP_COPIES)
def without_compilation(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a model but for what `compile` and `fit` left."""
    kept = {name: held for name, held in attributes.items() if name not in COMPILED}
    if CHECKPOINTED in kept:  # TensorFlow's own list of the same attributes
        kept[CHECKPOINTED] = [item for item in kept[CHECKPOINTED] if item.name not in COMPILED]
        names = kept[_CHECKPOINTED_NAMES].items()
        kept[_CHECKPOINTED_NAMES] = {name: held for name, held in names if name not in COMPILED}
    return kept


@needing(DEEP_COPIES)
def forget_compilation(model: Any, copy: Any) -> None:
    """Leave a copy of `model` as if it had never been compiled."""
    Trainer.__init__(copy)
    copy.optimizer = None
    compiled = [model._loss_tracker, model._compile_metrics]
    kept = zip(model._metrics, list(copy._metrics), strict=True)
    copy._metrics[:] = [new for old, new in kept if not any(old is c for c in compiled)]
    copy._lock = model._lock


def noted_arguments(layer: Any) -> dict[str, Any] | None:
    """The arguments of a constructor that takes no `name` and such, where Keras noted them."""
    held = getattr(layer, "_auto_config", None)
    return None if held is None else dict(held.config)


LIVING_CODE = Capability(
    "living-code",
    feature="Making a layer again that holds a lambda",
    needs=(_SAFE_MODE,),
    since=_SINCE,
    without="Lambda layers are copied attribute by attribute, and not where deep-copies is off",
)
_safe_mode_scope = LIVING_CODE[_SAFE_MODE]


def trusting() -> AbstractContextManager[Any]:
    """Within it Keras makes lambdas again from configs; for models whose code has run before."""
    return nullcontext() if LIVING_CODE.missing else _safe_mode_scope(False)


MODEL_BYTES = Capability(
    "model-bytes",
    feature="Loading a model file from memory",
    needs=(_ZIP_READER, _HDF5_READER),
    since=_SINCE,
    without="model files are copied to a temporary folder and loaded from there",
)
read_zip_model = MODEL_BYTES[_ZIP_READER]
read_hdf5_model = MODEL_BYTES[_HDF5_READER]


# Training that is watched


WATCHED_FIT = Capability(
    "watched-fit",
    feature="Monitor",
    needs=("keras.Model._make_function",),
    since=_SINCE,
    without="training goes on unwatched, and Monitor says so",
)


def train_function(model: Any, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of an iterator that takes `step` as the model's own train function would."""
    WATCHED_FIT.require()
    return model._make_function(step)


def trace_train_function(function: Callable[[Any], Any], iterator: Any) -> None:
    """Trace what a call with this iterator will run, where `train_function` has compiled it."""
    steps = _steps_of(function)
    if hasattr(steps, "get_concrete_function"):
        steps.get_concrete_function(iterator)


def is_traced(function: Callable[[Any], Any]) -> bool:
    """Whether a train function of Keras's was traced, so that Python code has run once for it."""
    count = getattr(_steps_of(function), "experimental_get_tracing_count", lambda: 0)
    return count() > 0


def _steps_of(function: Callable[[Any], Any]) -> Any:
    return inspect.getclosurevars(function).nonlocals.get("multi_step_on_iterator")


def has_usual_train_function(model: Any) -> bool:
    """Whether `fit` runs what Keras itself makes of the model's `train_step`."""
    made = getattr(model.make_train_function, "__func__", None)
    function = model.train_function
    usual = str(getattr(function, "__module__", "")).startswith("keras.")
    is_one = made is keras.Model.make_train_function
    return is_one and usual and not hasattr(function, "__wrapped__")


def calling_list(callback: Any) -> Any:
    """The `CallbackList` that is calling this callback now; None where it is called otherwise."""
    frame = inspect.currentframe()
    for _ in range(_NUM_FRAMES):
        frame = frame and frame.f_back
        held = frame.f_locals.get("self") if frame else None
        if isinstance(held, keras.callbacks.CallbackList):
            return held if any(c is callback for c in held.callbacks) else None
    return None


_NUM_FRAMES = 8  # a callback's subclasses and decorators may stand between


DIRECT_STEPS = Capability(
    "direct-steps",
    feature="Calling a compiled step past Keras",
    needs=("keras.Model._autoconvert_optionals",),
    since=_SINCE,
    without="each watched step costs 0.6 ms more",
)


def with_optionals(model: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes a batch apart as Keras does where a data set yields optionals."""
    return model._autoconvert_optionals(function)


RECURRENT_LOOPS = Capability(
    "recurrent-loops",
    feature="Watching the steps of recurrent layers",
    needs=(
        _RNN,
        "keras.layers.RNN.inner_loop",
        "keras.layers.LSTM.inner_loop",
        "keras.layers.GRU.inner_loop",
    ),
    since=_SINCE,
    without="in training, the gradient through time and the gates of recurrent layers are not "
    "measured; analyze measures them",
)
run_loop = RECURRENT_LOOPS[_RNN]


def has_usual_loop(layer: Any) -> bool:
    """Whether a recurrent layer runs over time as Keras's own do."""
    if RECURRENT_LOOPS.missing:
        return False
    kinds = (keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU)
    return type(layer).inner_loop in [kind.inner_loop for kind in kinds]


# Attention


ATTENTION = Capability(
    "attention",
    feature="Looking into attention",
    needs=(
        "keras.layers.MultiHeadAttention._compute_attention",
        "keras.layers.MultiHeadAttention._masked_softmax",
        "keras.layers.GroupQueryAttention._compute_attention",
        "keras.layers.GroupQueryAttention._masked_softmax",
        "keras.layers.Attention._apply_scores",
        "keras.src.ops.nn.DotProductAttention",
        "MultiHeadAttention._inverse_sqrt_key_dim",
        "GroupQueryAttention._inverse_sqrt_head_dim",
    ),
    since=_SINCE,
    without="the probabilities of attention layers are not measured, and symptoms that ask for "
    "them are not examined",
)


class Attention(NamedTuple):
    """Where a layer of Keras's computes its attention.

    Attributes:
        compute: the method to replace; it takes query, key and value of (samples, positions,
            heads, features), or scores and values.
        softmax: the method that turns scores into probabilities, where `compute` has one.
        is_usual: whether `compute` is Keras's own.
        takes_scores: whether `compute` gets the scores.
    """

    compute: str
    softmax: str | None
    is_usual: bool
    takes_scores: bool


def attention_of(layer: Any) -> Attention | None:
    """How to look into an attention layer; None of any other layer, or where that is off."""
    if ATTENTION.missing:
        return None
    kind = type(layer)
    for known in (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention):
        if isinstance(layer, known):
            is_usual = kind._compute_attention is known._compute_attention
            return Attention("_compute_attention", "_masked_softmax", is_usual, False)
    if isinstance(layer, keras.layers.Attention):
        is_usual = kind._apply_scores is keras.layers.Attention._apply_scores
        return Attention("_apply_scores", None, is_usual, True)
    return None


def is_attention_operation(operation: Any) -> bool:
    """Whether it is `keras.ops.dot_product_attention` in a graph; False where that is unknown."""
    kind = ATTENTION["keras.src.ops.nn.DotProductAttention"]
    return not ATTENTION.missing and isinstance(operation, kind)


def score_scale(layer: Any) -> float:
    """What the products of queries and keys are multiplied by."""
    names = ("_inverse_sqrt_key_dim", "_inverse_sqrt_head_dim")
    return float(next(held for name in names if (held := vars(layer).get(name)) is not None))


@ATTENTION.probe
def _probe_attention() -> None:
    many = keras.layers.MultiHeadAttention(2, 3)
    grouped = keras.layers.GroupQueryAttention(3, 2, 1)
    for layer in (many, grouped):
        if abs(score_scale(layer) - 3**-0.5) > 1e-6:
            raise RuntimeError("attention layers do not scale their scores by their dimension")
