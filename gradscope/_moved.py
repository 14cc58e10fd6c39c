"""Import paths that the documents published before modules moved into folders."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

MOVED = {
    "gradscope.callback": "gradscope.monitor.callback",
    "gradscope.comparison": "gradscope.trials.trial",
    "gradscope.differences": "gradscope.report.comparison",
    "gradscope.graph": "gradscope.surgery.graph",
    "gradscope.operating": "gradscope.therapy.apply_prescriptions",
    "gradscope.symptoms._common": "gradscope.signals.common",
}

RENAMED = {"copied": "copy_model", "rebuilt": "rebuild"}


def forward(old: str, new: str) -> None:
    """Let `old` be imported; what is asked of it comes from `new`, which is imported only then."""

    def get(name: str) -> Any:
        if name.startswith("__"):  # tools that look through sys.modules ask every module for these
            raise AttributeError(name)
        return getattr(importlib.import_module(new), RENAMED.get(name, name))

    module = ModuleType(old, f"Moved to {new}.")
    module.__dict__["__getattr__"] = get
    sys.modules[old] = module


for _old, _new in MOVED.items():
    forward(_old, _new)
