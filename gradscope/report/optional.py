"""Packages that only some features use."""

from __future__ import annotations

import importlib
from types import ModuleType

from gradscope.errors import UsageError


def import_optional(module: str, package: str, feature: str) -> ModuleType:
    """Import `module` of a package that `feature` uses.

    Raises:
        UsageError: the package is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{feature} needs {package}, which is not installed: run 'pip install {package}'."
        ) from error
