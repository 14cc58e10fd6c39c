"""The private names of TensorFlow: each function says in its capability what is off without it."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from gradscope.backend.capabilities import Capability

_SINCE = "TensorFlow 2.18"
_RECORD = "tensorflow.python.eager.record."
_CALLBACKS = "tensorflow.python.framework.op_callbacks."
_EXECUTE = "tensorflow.python.eager.execute."
_CONTEXT = "tensorflow.python.eager.context.context"
_GRADIENT = "tensorflow.python.eager.backprop._gradient_function"
_REGISTER = "tensorflow.python.pywrap_tfe.TFE_Py_RegisterGradientFunction"
_DECORATOR = "tensorflow.python.ops.custom_gradient._eager_mode_decorator"
_CLEAR = "tensorflow.python.pywrap_tfe.TFE_ContextClearCaches"
_POLYMORPHIC = "tensorflow.python.eager.polymorphic_function.polymorphic_function"
_EAGERLY = "tensorflow.python.eager.polymorphic_function.eager_function_run"


# Gradients that pass by


def _probe_taps() -> None:
    seen: list[Any] = []
    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = observe(x, seen.append) * 2.0
    if float(tape.gradient(y, x)) != 2.0 or [float(g) for g in seen] != [2.0]:
        raise RuntimeError("a tap changes the gradient, or does not see it")


GRADIENT_TAPS = Capability(
    "gradient-taps",
    feature="Taps that cost next to nothing",
    needs=(f"{_RECORD}record_operation", f"{_RECORD}stop_recording"),
    since=_SINCE,
    without="taps go through tf.custom_gradient: analysis and sampled steps take longer",
    probe=_probe_taps,
)
_record_operation = GRADIENT_TAPS[f"{_RECORD}record_operation"]
_stop_recording = GRADIENT_TAPS[f"{_RECORD}stop_recording"]


def observe(tensor: Any, backward: Callable[[Any], None]) -> Any:
    """A copy of `tensor` that hands the gradient arriving at it to `backward`."""

    def gradient(upstream: Any) -> list[Any]:
        backward(upstream)
        return [upstream]

    if GRADIENT_TAPS.missing:
        return tf.custom_gradient(lambda x: (tf.raw_ops.Identity(input=x), gradient))(tensor)
    with _stop_recording():
        copy = tf.raw_ops.Identity(input=tensor)
    _record_operation("GradscopeTap", [copy], [tensor], gradient)
    return copy


def observe_source(make: Callable[[], Any], anchor: Any, backward: Callable[[Any], None]) -> Any:
    """What `make` makes, its gradient handed to `backward` and to nothing else.

    Args:
        anchor: a tensor that the tape follows, so that it follows what is recorded as made from it.
    """

    def gradient(upstream: Any) -> list[Any]:
        backward(upstream)
        return [None]

    if GRADIENT_TAPS.missing:
        return tf.custom_gradient(lambda _: (make(), gradient))(anchor)
    with _stop_recording():
        made = make()
    _record_operation("GradscopeZeros", [made], [anchor], gradient)
    return made


# Operations as they are run


def _probe_callbacks() -> None:
    seen: list[Any] = []
    callback = lambda kind, *_, **__: seen.append(kind)  # noqa: E731
    add_operation_callback(callback)
    try:
        _ = tf.constant(1.0) + tf.constant(2.0)
    finally:
        remove_operation_callback(callback, others=False)
    if not seen:
        raise RuntimeError("operations are not told")


OPERATION_TRAIL = Capability(
    "operation-trail",
    feature="Following tensors through code between layers",
    needs=(
        f"{_CALLBACKS}add_op_callback",
        f"{_CALLBACKS}remove_op_callback",
        f"{_EXECUTE}execute",
        f"{_EXECUTE}execute_with_callbacks",
    ),
    since=_SINCE,
    without="in models whose call is their own code, the depth of a layer is that of the call "
    "before it, and sums that end a residual branch are not recognised",
    probe=_probe_callbacks,
)
_add_op_callback = OPERATION_TRAIL[f"{_CALLBACKS}add_op_callback"]
_remove_op_callback = OPERATION_TRAIL[f"{_CALLBACKS}remove_op_callback"]


def add_operation_callback(callback: Callable[..., None]) -> None:
    """Have `callback` told of every operation of this thread; see `patches.operations_followed`."""
    _add_op_callback(callback)


def remove_operation_callback(callback: Callable[..., None], others: bool) -> None:
    """`others`: whether another thread has callbacks; TensorFlow's dispatch must stay for it."""
    _remove_op_callback(callback)
    if others:
        from tensorflow.python.eager import execute

        execute.execute = execute.execute_with_callbacks


def _probe_gradients() -> None:
    seen: list[Any] = []

    def gradient(*args: Any) -> Any:
        seen.append(args[0])
        return operation_gradient(*args)

    x = tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.exp(x)
    register_operation_gradient(gradient)
    try:
        tape.gradient(y, x)
    finally:
        register_operation_gradient(operation_gradient)
    if seen != ["Exp"]:
        raise RuntimeError("gradients of operations are not told")


OPERATION_GRADIENTS = Capability(
    "operation-gradients",
    feature="Naming the operation whose slope makes NaN or Inf",
    needs=(_GRADIENT, _REGISTER),
    since=_SINCE,
    without="of NaN that arises on the way back, an operation of the gradient is named, and second "
    "derivatives that are zero everywhere are not found",
    probe=_probe_gradients,
)
# What a tape calls for the gradient of an operation, and what has it call another function, in the
# whole process.
operation_gradient = OPERATION_GRADIENTS[_GRADIENT]
register_operation_gradient = OPERATION_GRADIENTS[_REGISTER]


# Functions that are run again on the way back


RECOMPUTATION = Capability(
    "recomputation",
    feature="Noting recomputed layers once",
    needs=(_DECORATOR,),
    since=_SINCE,
    without="layers inside of keras.remat or tf.recompute_grad are noted twice",
)


DECORATOR = "_eager_mode_decorator"  # runs functions with a gradient of their own


def custom_gradients() -> dict[str, Any]:
    """The globals of the module that holds it; `patches.without_recomputation` sets them."""
    RECOMPUTATION.require()
    from tensorflow.python.ops import custom_gradient

    return vars(custom_gradient)


def unwrap_recomputed(function: Any) -> Callable[..., Any] | None:
    """What `tf.recompute_grad` wraps, of the function that it gives a gradient; None of others."""
    if getattr(function, "__qualname__", "") != "recompute_grad.<locals>.inner":
        return None
    wrapped = inspect.getclosurevars(function).nonlocals.get("f")
    return wrapped if callable(wrapped) else None


# Seeds of operations


def _probe_seeds() -> None:
    context = _context()
    used = context._internal_operation_seed.__code__.co_names
    if "_rng" not in used or not hasattr(context, "_seed"):
        raise RuntimeError("operations do not draw their seeds from the context's _rng")


OPERATION_SEEDS = Capability(
    "operation-seeds",
    feature="Putting TensorFlow's global seed back",
    needs=(_CONTEXT, _CLEAR, "Context._rng", "Context._seed", "Context._context_handle"),
    since=_SINCE,
    without="a trial sets TensorFlow's seed with tf.random.set_seed and leaves it set; operations "
    "such as tf.random.normal go on from there",
    probe=_probe_seeds,
)
_context = OPERATION_SEEDS[_CONTEXT]
_clear_caches = OPERATION_SEEDS[_CLEAR]


def operation_seed_restorer() -> Callable[[], None] | None:
    """What puts the generator of operations' seeds back; None where it is not in use or unknown."""
    generator = None if OPERATION_SEEDS.missing else getattr(_context(), "_rng", None)
    if generator is None:
        return None
    state = generator.getstate()
    return lambda: generator.setstate(state)


def _probe_generator() -> None:
    before = vars(_generators)[_GLOBAL]
    restore = global_generator_restorer()
    tf.random.set_global_generator(tf.random.Generator.from_seed(1))
    assert restore is not None
    restore()
    if vars(_generators)[_GLOBAL] is not before:
        raise RuntimeError("the global generator is kept elsewhere")


_GENERATORS = "tensorflow.python.ops.stateful_random_ops"
_GLOBAL = "global_generator"
GLOBAL_GENERATOR = Capability(
    "global-generator",
    feature="Putting the generator of tf.random.get_global_generator back",
    needs=(_GENERATORS, f"{_GENERATORS}.{_GLOBAL}"),
    since=_SINCE,
    without="after an analysis it goes on with other numbers than before where the model uses it",
    probe=_probe_generator,
)
_generators = GLOBAL_GENERATOR[_GENERATORS]


def global_generator_restorer() -> Callable[[], None] | None:
    """What puts TensorFlow's global generator back; None where it is not known."""
    if GLOBAL_GENERATOR.missing:
        return None
    generator = vars(_generators)[_GLOBAL]
    state = None if generator is None else generator.state.read_value()

    def restore() -> None:
        if generator is not None:
            generator.state.assign(state)
        tf.random.set_global_generator(generator)

    return restore


def forget_streams() -> None:
    """Let operations that remember how often they drew begin anew, as `tf.random.set_seed` does."""
    if OPERATION_SEEDS.missing:
        return
    context = _context()
    context.ensure_initialized()
    _clear_caches(context._context_handle)


def operation_seeds(seed: int, generator: random.Random) -> list[tuple[Any, str, Any]]:
    """What to set, and to put back, so that operations draw their seeds from `generator`."""
    if OPERATION_SEEDS.missing:
        tf.random.set_seed(seed)
        return []
    return [(_context(), "_seed", seed), (_context(), "_rng", generator)]


# Compiled functions that are run as they are read


EAGER_FUNCTIONS = Capability(
    "eager-functions",
    feature="Running compiled functions eagerly in one thread only",
    needs=(f"{_EAGERLY}.RUN_FUNCTIONS_EAGERLY", f"{_EAGERLY}.functions_run_eagerly"),
    since=_SINCE,
    without="while a model is analyzed, compiled functions of other threads run eagerly, too",
)


def eager_setting() -> dict[str, Any]:
    """The globals of the module that holds the setting; `patches.functions_eager` sets them."""
    EAGER_FUNCTIONS.require()
    from tensorflow.python.eager.polymorphic_function import eager_function_run

    return vars(eager_function_run)


# Bits that count


OP_DETERMINISM = Capability(
    "op-determinism",
    feature="Sampled steps that are the same to the last bit under op determinism",
    needs=("tensorflow.python.framework.config.is_op_determinism_enabled",),
    since=_SINCE,
    without="a sampled step may end in other last bits than an unwatched one",
)


def is_deterministic() -> bool:
    """Whether the user asked for steps that are the same to the bit."""
    name = "tensorflow.python.framework.config.is_op_determinism_enabled"
    return not OP_DETERMINISM.missing and bool(OP_DETERMINISM[name]())


# Compiled functions that are called past themselves


def silence_retracing(function: Any) -> None:
    """Keep TensorFlow from warning of retracing where most calls go past the function.

    It counts calls by `_omit_frequent_tracing_warning`; setting it where it is unknown is harmless.
    """
    function._omit_frequent_tracing_warning = True


TRACING_WARNINGS = Capability(
    "tracing-warnings",
    feature="Training copies without TensorFlow's warnings of retracing",
    needs=(f"{_POLYMORPHIC}._FrequentTracingDetectorManager.called_with_tracing",),
    since=_SINCE,
    without="TensorFlow may warn of retracing, although each copy is traced once",
)


def tracing_counter() -> type:
    """What counts tracings and warns of many; each copy of a model counts as the same function."""
    TRACING_WARNINGS.require()
    from tensorflow.python.eager.polymorphic_function import polymorphic_function

    return polymorphic_function._FrequentTracingDetectorManager
