"""Why an operation makes NaN or Inf of finite values: arithmetic on its operands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradscope.records.numerics import Cause

# Which operand divides.
_DIVISORS = {
    "RealDiv": 1,
    "Div": 1,
    "Xdivy": 1,
    "TruncateDiv": 1,
    "FloorDiv": 1,
    "FloorMod": 1,
    "TruncateMod": 1,
    "Mod": 1,
    "Reciprocal": 0,
    "Inv": 0,
    "Rsqrt": 0,
}
_LOGARITHMS = {"Log": 0.0, "Log1p": -1.0, "Xlogy": 0.0, "Xlog1py": -1.0}
_ROOTS = ("Sqrt", "EuclideanNorm")
_OF_EXPONENT = ("Exp", "Expm1", "Sinh", "Cosh")
# Defined on a part of the numbers, with an infinite value or slope at its end.
_ON_A_PART = ("Acos", "Asin", "Acosh", "Atanh", "Erfinv", "Ndtri", "Lgamma", "Digamma")
_PRODUCTS = ("Mul", "MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum")
_NEAR_THE_END = 1e-3  # of the square root of the largest number: a square or a product overflows


def forward_cause(
    operation: str, operands: Sequence[np.ndarray], results: Sequence[np.ndarray]
) -> Cause:
    """Why `results` hold NaN or Inf; the operands may hold Inf, but no NaN."""
    first = operands[0] if operands else np.zeros(0)
    if any(not operand.size for operand in operands):
        return "empty-operand"
    if any(np.isinf(operand).any() for operand in operands):
        has_zero = any((operand == 0).any() for operand in operands)
        is_product = operation in _PRODUCTS or operation.startswith("Conv")
        return "zero-times-infinity" if is_product and has_zero else "infinite-operand"
    if operation in _LOGARITHMS:
        return _logarithm(operands[-1], _LOGARITHMS[operation])
    if operation in ("Sqrt", "Rsqrt") and (first < 0).any():
        return "root-of-negative"
    if operation in _DIVISORS and (operands[_DIVISORS[operation]] == 0).any():
        return "division-by-zero"
    if operation == "Pow" and (found := _power(*operands)):
        return found
    if operation in _ON_A_PART:
        return "outside-domain"
    return _overflow(operation, operands, results)


def backward_cause(
    operation: str,
    operands: Sequence[np.ndarray],
    arriving: Sequence[np.ndarray],
    leaving: Sequence[np.ndarray],
) -> Cause:
    """Why the gradients that leave an operation hold NaN or Inf, where what arrives is finite."""
    first = operands[0] if operands else np.zeros(0)
    if operation in _ROOTS and (first == 0).any():
        return "root-at-zero"
    if operation in _LOGARITHMS and (operands[-1] == _LOGARITHMS[operation]).any():
        return "log-of-zero"
    if (
        operation in _DIVISORS
        and (operands[min(_DIVISORS[operation], len(operands) - 1)] == 0).any()
    ):
        return "division-by-zero"
    if operation == "Pow" and (first == 0).any():
        return "power-of-zero"
    if operation in _ON_A_PART:
        return "outside-domain"
    return _overflow(operation, (*operands, *arriving), leaving)


def _logarithm(given: np.ndarray, end: float) -> Cause:
    if (given < end).any():
        return "log-of-negative"
    return "log-of-zero" if (given == end).any() else "other"


def _power(base: np.ndarray, exponent: np.ndarray) -> Cause | None:
    if ((base == 0) & (exponent < 0)).any():
        return "power-of-zero"
    if ((base < 0) & (exponent != np.rint(exponent))).any():
        return "power-of-negative"
    return None


def _overflow(
    operation: str, operands: Sequence[np.ndarray], results: Sequence[np.ndarray]
) -> Cause:
    if any(str(result.dtype) == "float16" for result in results):
        return "float16-overflow"
    if operation in _OF_EXPONENT:
        return "exp-overflow"
    largest = max((largest_magnitude(operand) for operand in operands), default=0.0)
    has_inf = any(np.isinf(result).any() for result in results)
    is_large = largest > _NEAR_THE_END * np.sqrt(float(np.finfo(np.float32).max))
    return "overflow" if has_inf or is_large else "other"


def largest_magnitude(array: np.ndarray) -> float:
    """The largest finite magnitude in it, 0 where there is none."""
    found = np.abs(array[np.isfinite(array)]).astype(np.float64)
    return float(found.max()) if found.size else 0.0
