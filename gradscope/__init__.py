"""gradscope: a doctor for Keras models that do not train.

    report = gradscope.analyze(model, x, y)
    print(report.summary())
    report.to_html("report.html")

Importing gradscope loads no TensorFlow; the first analysis does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradscope import _moved as _moved
from gradscope._version import __version__

if TYPE_CHECKING:
    from gradscope.analysis import analyze as analyze
    from gradscope.assertions import assert_healthy as assert_healthy
    from gradscope.errors import CannotExamineError as CannotExamineError
    from gradscope.errors import GradscopeError as GradscopeError
    from gradscope.errors import UnreadableError as UnreadableError
    from gradscope.errors import UsageError as UsageError
    from gradscope.monitor.callback import Monitor as Monitor
    from gradscope.rehearsal.rehearse import rehearse as rehearse
    from gradscope.report.comparison import compare as compare
    from gradscope.report.load import load_report as load_report
    from gradscope.report.report import Report as Report
    from gradscope.therapy.apply_prescriptions import apply as apply
    from gradscope.therapy.treat_model import treat as treat
    from gradscope.trials.trial import trial as trial
    from gradscope.values import capture as capture

_HOME = {
    "Monitor": "monitor.callback",
    "analyze": "analysis",
    "capture": "values",
    "apply": "therapy.apply_prescriptions",
    "assert_healthy": "assertions",
    "Report": "report.report",
    "load_report": "report.load",
    "rehearse": "rehearsal.rehearse",
    "treat": "therapy.treat_model",
    "compare": "report.comparison",
    "trial": "trials.trial",
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
    "capture",
    "compare",
    "load_report",
    "rehearse",
    "treat",
    "trial",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"gradscope.{_HOME[name]}"), name)
    raise AttributeError(f"module 'gradscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
