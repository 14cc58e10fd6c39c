"""gradscope: a doctor for Keras models that do not train.

    report = gradscope.analyze(model, x, y)
    print(report.summary())
    report.to_html("report.html")

Importing gradscope loads no TensorFlow; the first analysis does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradscope._version import __version__

if TYPE_CHECKING:
    from gradscope.analysis import analyze as analyze
    from gradscope.assertions import assert_healthy as assert_healthy
    from gradscope.callback import Monitor as Monitor
    from gradscope.comparison import trial as trial
    from gradscope.differences import compare as compare
    from gradscope.errors import CannotExamineError as CannotExamineError
    from gradscope.errors import GradscopeError as GradscopeError
    from gradscope.errors import UnreadableError as UnreadableError
    from gradscope.errors import UsageError as UsageError
    from gradscope.operating import apply as apply
    from gradscope.report import Report as Report
    from gradscope.report import load_report as load_report
    from gradscope.therapy import treat as treat

_HOME = {
    "Monitor": "callback",
    "analyze": "analysis",
    "apply": "operating",
    "assert_healthy": "assertions",
    "Report": "report",
    "load_report": "report",
    "treat": "therapy",
    "compare": "differences",
    "trial": "comparison",
    "GradscopeError": "errors",
    "UsageError": "errors",
    "UnreadableError": "errors",
    "CannotExamineError": "errors",
}

__all__ = [
    "CannotExamineError",
    "GradscopeError",
    "Monitor",
    "Report",
    "UnreadableError",
    "UsageError",
    "__version__",
    "analyze",
    "apply",
    "assert_healthy",
    "compare",
    "load_report",
    "treat",
    "trial",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"gradscope.{_HOME[name]}"), name)
    raise AttributeError(f"module 'gradscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
