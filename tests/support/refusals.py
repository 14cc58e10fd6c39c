"""How a refusal reads."""

from __future__ import annotations

import pytest

from gradscope.errors import GradscopeError, UnreadableError
from gradscope.inputs.models import load_model


def refusal(action, *args, error: type[GradscopeError] = UnreadableError, **kwargs) -> str:
    """The one line with which `action` is refused."""
    with pytest.raises(error) as caught:
        action(*args, **kwargs)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 500
    return line


def model_refusal(spec, **options) -> str:
    """The one line with which loading the model `spec` is refused."""
    return refusal(load_model, str(spec), **options)
