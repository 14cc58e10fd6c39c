"""Data for the models of conftest.py, and how a refusal reads."""

from __future__ import annotations

import numpy as np
import pytest

from gradscope.errors import GradscopeError, UnreadableError

X = np.linspace(0, 1, 24, dtype="float32").reshape(6, 4)
Y = np.array([0, 1, 2, 0, 1, 2])


def refusal(action, *args, error: type[GradscopeError] = UnreadableError, **kwargs) -> str:
    """The one line with which `action` is refused."""
    with pytest.raises(error) as caught:
        action(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    return line
