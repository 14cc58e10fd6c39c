"""What gradscope needs of Keras and TensorFlow beyond their public interface, and what without it.

Keras and TensorFlow may change a private name in any release. So each is used in `keras_private` or
`tensorflow_private` only, by a function that belongs to a `Capability`. Where a name is missing the
capability is off: the function takes a slower public way, or raises `Unavailable`, which declines
what was asked for. `gradscope doctor` tries them all.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from gradscope.errors import CannotExamineError

_Function = TypeVar("_Function", bound=Callable[..., Any])
_MODULES = ("keras.", "tensorflow.")

CAPABILITIES: dict[str, Capability] = {}


class Capability:
    """Private names that one feature needs.

    Names are looked up once, when the capability is made; `missing` says what was not found.

    Args:
        id: kebab-case noun.
        feature: what it serves, as the subject of a sentence.
        needs: dotted names from an importable module on; other entries name attributes of
            instances, which only `probe` can tell.
        since: the oldest versions it was seen to work with.
        without: what is off, or what it costs, where a name is missing.
        probe: uses the names as gradscope does; raises where they do not work. Where it needs what
            is built on the names, it is given later, by the decorator `probe`.
    """

    def __init__(
        self,
        id: str,
        *,
        feature: str,
        needs: tuple[str, ...],
        without: str,
        since: str,
        probe: Callable[[], object] = lambda: None,
    ) -> None:
        self.id, self.feature, self.needs = id, feature, needs
        self.without, self.since, self._use = without, since, probe
        self.missing: str | None = None
        self._found = {name: self._find(name) for name in needs if name.startswith(_MODULES)}
        CAPABILITIES[id] = self

    def __getitem__(self, name: str) -> Any:
        """What a name of `needs` stands for; None where it is missing."""
        return self._found[name]

    def require(self) -> None:
        """Raise `Unavailable` where the capability is off."""
        if self.missing:
            raise Unavailable(self)

    def check(self) -> str | None:
        """Why the capability is off, found by using it; None where it works."""
        if self.missing is None:
            try:
                self._use()
            except Exception as error:
                return f"{type(error).__name__}: {error}"
        return self.missing

    def probe(self, use: Callable[[], object]) -> Callable[[], object]:
        """Have `check` call the decorated function."""
        self._use = use
        return use

    def _find(self, name: str) -> Any:
        try:
            return resolve(name)
        except (ImportError, AttributeError):
            self.missing = f"no {name}"
            return None


class Unavailable(CannotExamineError):
    """A feature is off because this Keras or TensorFlow lacks a private name that it needs."""

    def __init__(self, capability: Capability, reason: str | None = None) -> None:
        reason = reason or capability.missing or "it is off"
        super().__init__(
            f"{capability.feature} needs what this Keras or TensorFlow lacks ({reason}): "
            "see 'gradscope doctor', and install versions that gradscope supports."
        )
        self.capability = capability


def needing(capability: Capability) -> Callable[[_Function], _Function]:
    """Have a function that reads private attributes decline where these are missing."""

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def guarded(*args: Any) -> Any:
            if capability.missing:
                raise Unavailable(capability)
            try:
                return function(*args)
            except AttributeError as error:
                raise Unavailable(capability, str(error)) from error

        return guarded  # type: ignore[return-value]

    return decorate


def resolve(name: str) -> Any:
    """What a dotted name stands for: a module, or an attribute of one, or of a class in one.

    Raises:
        ImportError, AttributeError: there is no such thing.
    """
    parts = name.split(".")
    for number in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:number]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[number:], found)
    raise ImportError(name)
