"""Changes of what the whole process shares, each for as long as a `with` block lasts.

Every change is made once, by the first thread that asks for it, and taken back by the last, also
after an exception or Ctrl-C. Meanwhile it holds for the threads inside their `with` block alone:
others go the way they always go, so that analysing a model in one thread never changes a `fit` in
another. Blocks of one thread may be nested. One lock guards installing and taking back; nothing of
the user's runs under it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import tensorflow as tf

from gradscope.backend import tensorflow_private as private
from gradscope.backend.cleanup import undone

_lock = threading.RLock()
_ABSENT = object()


class _Shared:
    """Something of the whole process in whose place each thread has values of its own.

    Attributes:
        holders: the `with` blocks that are open, in all threads.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self.holders: set[object] = set()

    @property
    def here(self) -> list[tuple[object, Any]]:
        """The values of this thread, the innermost last, with the block each belongs to."""
        return getattr(self._local, "here", [])

    @here.setter
    def here(self, here: list[tuple[object, Any]]) -> None:
        self._local.here = here

    def install(self) -> None:
        raise NotImplementedError

    def take_back(self) -> None:
        raise NotImplementedError


_installed: dict[Hashable, _Shared] = {}


@contextmanager
def _hold(key: Hashable, make: Callable[[], _Shared], value: Any) -> Iterator[None]:
    """Have `value` hold in this thread; while any block is open, what `make` returns is there."""
    block = object()

    def undo() -> None:
        shared = _installed.get(key)
        if shared is None:
            return
        shared.here = [pair for pair in shared.here if pair[0] is not block]
        with _lock:
            shared.holders.discard(block)
            if not shared.holders:
                shared.take_back()
                _installed.pop(key, None)

    with undone([undo]):
        with _lock:
            if key not in _installed:
                _installed[key] = make()
            shared = _installed[key]
            shared.holders.add(block)
            shared.install()
        shared.here = [*shared.here, (block, value)]
        yield


class _Method(_Shared):
    """A method of a class that calls what the current thread has put in its place."""

    def __init__(self, kind: type, name: str) -> None:
        super().__init__()
        self._kind, self._name = kind, name
        self._own = vars(kind).get(name, _ABSENT)
        original = getattr(kind, name)

        @functools.wraps(original)
        def method(*args: Any, **kwargs: Any) -> Any:
            chosen = original
            for _, replacement in self.here:
                chosen = functools.partial(replacement, chosen)
            return chosen(*args, **kwargs)

        self._method = method

    def install(self) -> None:
        if vars(self._kind).get(self._name) is not self._method:
            setattr(self._kind, self._name, self._method)

    def take_back(self) -> None:
        # Where others have put theirs over it meanwhile, it stays below and lets all pass.
        if vars(self._kind).get(self._name) is self._method:
            if self._own is _ABSENT:
                delattr(self._kind, self._name)
            else:
                setattr(self._kind, self._name, self._own)


@contextmanager
def replaced(kind: type, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """A method of a class replaced for this thread.

    Args:
        replacement: called with the method that it stands for, then with the method's arguments.
    """
    with _hold((kind, name), lambda: _Method(kind, name), replacement):
        yield


@contextmanager
def gradients_noted(note: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Hand (target, sources, gradients) of each `GradientTape.gradient` of this thread to `note`.

    Replicas of a distributed model are traced by a thread each, so open it inside of their step.
    """

    def gradient(original: Any, tape: Any, target: Any, sources: Any, *args: Any, **kw: Any) -> Any:
        found = original(tape, target, sources, *args, **kw)
        note(target, sources, found)
        return found

    with replaced(tf.GradientTape, "gradient", gradient):
        yield


@contextmanager
def tracings_uncounted() -> Iterator[None]:
    """What this thread traces counts for no warning of TensorFlow, now or later.

    All models count as one there, so that copies would make it warn, and the user's next `fit` too.
    """
    if private.TRACING_WARNINGS.missing:
        yield
        return
    with replaced(private.tracing_counter(), "called_with_tracing", lambda *_: None):
        yield


class _Eagerly(_Shared):
    """Stands in TensorFlow's setting for what holds in the current thread.

    TensorFlow reads the setting as a truth value, and sets it to `bool(value)` with the `bool` of
    its module, which `take` stands for: what a thread sets holds where that thread is.
    """

    def __init__(self, setting: dict[str, Any]) -> None:
        super().__init__()
        self._setting = setting
        self._getter = setting["functions_run_eagerly"]
        self._own_code = self._getter.__code__
        self.process = bool(setting["RUN_FUNCTIONS_EAGERLY"])

    def __bool__(self) -> bool:
        return self.here[-1][1] if self.here else self.process

    def take(self, value: Any) -> _Eagerly:
        if self.here:
            self.here = [*self.here[:-1], (self.here[-1][0], bool(value))]
        else:
            self.process = bool(value)
        return self

    def install(self) -> None:
        self._setting.update(RUN_FUNCTIONS_EAGERLY=self, bool=self.take)
        # Who asks for the setting gets a value, and may set that value again later.
        self._getter.__code__ = _as_value.__code__

    def take_back(self) -> None:
        self._getter.__code__ = self._own_code
        self._setting["RUN_FUNCTIONS_EAGERLY"] = self.process
        self._setting.pop("bool", None)


def _as_value() -> bool:
    return not not RUN_FUNCTIONS_EAGERLY  # type: ignore[name-defined] # noqa: F821, SIM208


@contextmanager
def functions_eager(value: bool) -> Iterator[None]:
    """Functions that TensorFlow compiles are run as they are read, or not, in this thread.

    Without the capability "eager-functions" it holds for the whole process.
    """
    if private.EAGER_FUNCTIONS.missing:
        before = tf.config.functions_run_eagerly()
        with undone([lambda: tf.config.run_functions_eagerly(before)]):
            tf.config.run_functions_eagerly(value)
            yield
        return
    with _hold("functions run eagerly", lambda: _Eagerly(private.eager_setting()), value):
        yield


# Threads that follow their operations; TensorFlow tells a thread of its own only, but leads all
# threads past its callbacks when the last one of any thread is taken away.
_following: set[int] = set()


def follow_operations(callback: Callable[..., None]) -> None:
    """Have `callback` told of every operation of this thread, until `unfollow_operations`.

    Without the capability "operation-trail" it is told of none. Both are called at every layer, so
    they are no `with` block.
    """
    if private.OPERATION_TRAIL.missing:
        return
    with _lock:
        _following.add(threading.get_ident())
        private.add_operation_callback(callback)


def unfollow_operations(callback: Callable[..., None]) -> None:
    """The end of `follow_operations`."""
    if private.OPERATION_TRAIL.missing:
        return
    with _lock, suppress(KeyError):  # interrupted before it was added, or after it was taken away
        _following.discard(threading.get_ident())
        private.remove_operation_callback(callback, others=bool(_following))


# (name of the operation, its inputs, its outputs)
OnOperation = Callable[[str, tuple[Any, ...], tuple[Any, ...]], None]
# (name, inputs, outputs, gradients that arrive, gradients that leave); what a gradient does not
# need is None among inputs and outputs
OnGradient = Callable[[str, list[Any], list[Any], list[Any], list[Any]], None]


@contextmanager
def operations_watched(on_operation: OnOperation, on_gradient: OnGradient) -> Iterator[None]:
    """Call back after each operation of this thread, and after the gradient of each.

    The gradient's own operations are told as operations, too. Of a gradient function of the user's
    (`tf.custom_gradient`) these are all that is told. One block at a time in a process: open it
    inside of `isolation.isolated`.
    """
    here = threading.get_ident()

    def operation(
        kind: str | bytes, inputs: Any, _: Any, outputs: Any, *__: Any, **___: Any
    ) -> None:
        name = kind.decode() if isinstance(kind, bytes) else kind
        on_operation(name, tuple(inputs), tuple(outputs))

    def gradient(*args: Any) -> Any:
        found = private.operation_gradient(*args)
        if threading.get_ident() == here:
            name, _, _, inputs, outputs, arriving = args[:6]
            on_gradient(name, *map(_as_list, (inputs, outputs, arriving, found)))
        return found

    knows_gradients = not private.OPERATION_GRADIENTS.missing

    def undo() -> None:
        if knows_gradients:
            private.register_operation_gradient(private.operation_gradient)
        unfollow_operations(operation)

    with undone([undo]):
        follow_operations(operation)
        if knows_gradients:
            private.register_operation_gradient(gradient)
        yield


@contextmanager
def without_recomputation() -> Iterator[None]:
    """Run what `tf.recompute_grad` (`keras.remat`, `RematScope`) wraps as if it were not wrapped.

    Eager and in this thread. The gradient is the same and takes more memory; nothing is run a
    second time on the way back. Without the capability "recomputation" it is. One block at a time
    in a process: open it inside of `isolation.isolated`.
    """
    if private.RECOMPUTATION.missing:
        yield
        return
    module, here = private.custom_gradients(), threading.get_ident()
    original = module[private.DECORATOR]

    def run(function: Any, args: Any, kwargs: Any) -> Any:
        wrapped = private.unwrap_recomputed(function) if threading.get_ident() == here else None
        return wrapped(*args, **kwargs) if wrapped else original(function, args, kwargs)

    with undone([lambda: module.update({private.DECORATOR: original})]):
        module[private.DECORATOR] = run
        yield


def _as_list(part: Any) -> list[Any]:
    if isinstance(part, (list, tuple)):
        return list(part)
    return [] if part is None else [part]


@private.RECOMPUTATION.probe
def _probe_recomputation() -> None:
    runs: list[Any] = []
    x = tf.constant(2.0)

    def square(z: Any) -> Any:
        runs.append(z)
        return z * z

    with without_recomputation(), tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.recompute_grad(square)(x)
    if float(tape.gradient(y, x)) != 4.0 or len(runs) != 1:
        raise RuntimeError("a function is run again")


@private.EAGER_FUNCTIONS.probe
def _probe_eager() -> None:
    ask = tf.function(tf.executing_eagerly)
    before = tf.config.functions_run_eagerly()
    with functions_eager(True):
        inside = ask() is True and tf.config.functions_run_eagerly() is True
    if not inside or tf.config.functions_run_eagerly() is not before:
        raise RuntimeError("compiled functions are not run eagerly, or stay so")
