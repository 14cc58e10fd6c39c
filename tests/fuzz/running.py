"""One spoilt file after another through its reader, and what became of it."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras

from gradscope.errors import GradscopeError
from gradscope.inputs.models import deep_recursion
from tests.fuzz.kinds import KINDS, Kind

_SECONDS = 30  # far above what any of these files may take


class _TooLong(BaseException):
    pass


def _stop(*_: Any) -> None:
    raise _TooLong


def outcomes(
    kind: str, seed: int, numbers: Iterable[int], folder: Path
) -> Iterator[tuple[int, str]]:
    """For each number "read", "refused", "no memory", "too long" or "failed: <exception>"."""
    before = signal.signal(signal.SIGALRM, _stop)
    try:
        for i in numbers:
            if i % 100 == 0:
                keras.utils.clear_session(free_memory=False)
            yield i, _outcome(KINDS[kind], random.Random(f"{kind}-{seed}-{i}"), folder)
    finally:
        signal.signal(signal.SIGALRM, before)


def _outcome(kind: Kind, rng: random.Random, folder: Path) -> str:
    path = folder / kind.file
    with deep_recursion():
        content = kind.spoilt(rng)
    path.write_bytes(content)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        kind.read(path)
        return "read"
    except GradscopeError as error:
        lines = str(error).splitlines()
        return "refused" if len(lines) == 1 and len(lines[0]) < 1500 else f"failed: {lines!r}"[:300]
    except _TooLong:
        return "too long"
    except Exception as error:
        if "MemoryError" in type(error).__name__ or "ResourceExhausted" in type(error).__name__:
            return "no memory"
        return f"failed: {type(error).__name__}: {str(error)[:200]!r}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
