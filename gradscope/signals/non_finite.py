"""Entries that are not finite: which statistics tell of them, and where they are meant."""

from __future__ import annotations

from gradscope.records import Cause, LayerProfile, NonFiniteOrigin, TensorStats


def all_stats(layer: LayerProfile) -> list[TensorStats | None]:
    return [
        layer.input,
        layer.preactivation,
        layer.output,
        layer.kernel,
        layer.activation_gradient,
        layer.preactivation_gradient,
        layer.input_gradient,
        layer.kernel_gradient,
    ]


def is_bad(stats: TensorStats | None) -> bool:
    return stats is not None and stats.finite_fraction < 1.0


def bad_share(stats: TensorStats | None) -> float:
    return 0.0 if stats is None else 1.0 - stats.finite_fraction


def is_absorbed(
    layer: LayerProfile, takers: dict[str, list[LayerProfile]], ends_well: bool
) -> bool:
    """Whether -Inf is a mark that those who take it understand: a maximum, a softmax."""
    after = takers[layer.id]
    is_mark = ends_well and not layer.weights and bool(after)
    return is_mark and not any(is_bad(row.output) for row in after)


# By cause: what happened, and the guard that cures it.
_TOLD: dict[Cause, tuple[str, str]] = {
    "data": ("The data holds NaN or Inf", "Drop these samples or fill the gaps."),
    "root-at-zero": (
        "has an infinite slope at 0, and infinity times 0 is NaN",
        "Add an epsilon inside the root: ops.sqrt(x + 1e-6); likewise in a norm, "
        "ops.sqrt(ops.sum(ops.square(x), axis=-1) + 1e-6). ops.where around it does not help.",
    ),
    "root-of-negative": (
        "gets a number below 0",
        "Clip its argument: ops.sqrt(ops.maximum(x, 1e-6)); a variance computed as a difference "
        "of means can come out below 0.",
    ),
    "log-of-zero": (
        "gets 0 (often an exponential or a probability that underflowed)",
        "Keep its argument above 0: ops.log(ops.maximum(x, 1e-7)), or ops.log1p(x) in place of "
        "ops.log(1 + x). The logarithm of a softmax is ops.log_softmax of its logits.",
    ),
    "log-of-exponentials": (
        "gets 0, a sum of exponentials that all underflowed",
        "Stay in the logarithm: ops.log(ops.sum(w * ops.exp(a), axis)) is "
        "ops.logsumexp(ops.log(w) + a, axis), which cannot underflow; take ops.log_softmax for the "
        "logarithm of weights that a softmax makes.",
    ),
    "log-of-negative": (
        "gets a number below where it is defined",
        "Make its argument positive, wherever it is used: ops.softplus(x) + 1e-6 for a scale or a "
        "rate, sigmoid or softmax for a probability. ops.maximum keeps it above 0, too, but what "
        "falls below gets no gradient and stays there.",
    ),
    "division-by-zero": (
        "divides by 0",
        "Keep the divisor away from 0: ops.maximum(d, 1e-7), or add an epsilon to it (inside the "
        "root, if it is one). ops.where around the quotient does not help in the backward pass.",
    ),
    "power-of-zero": (
        "has an infinite value or slope at 0",
        "Add an epsilon to the base: ops.power(x + 1e-6, p).",
    ),
    "power-of-negative": (
        "raises a number below 0 to a fraction",
        "Keep the base above 0: ops.power(ops.maximum(x, 1e-6), p).",
    ),
    "outside-domain": (
        "gets a number at or beyond the end of where it is defined",
        "Clip its argument to the inside of its domain: ops.clip(x, -1 + 1e-6, 1 - 1e-6) for "
        "arccos, arcsin and arctanh.",
    ),
    "exp-overflow": (
        "overflows: above 88.7 it is infinite in float32",
        "Clip its argument (ops.clip(x, -20, 20)), or stay in the logarithm (ops.logsumexp, "
        "ops.softplus). Unscaled inputs often cause this: scale them.",
    ),
    "float16-overflow": (
        "overflows float16, which ends at 65504",
        "Compute this part in float32 (dtype='float32'), or keep the values small. A constant of "
        "a mask must be finite in float16: -3e4 in place of -1e9.",
    ),
    "overflow": (
        "overflows",
        "Scale what goes in (inputs, initial weights), or clip it: ops.clip(x, -1e6, 1e6).",
    ),
    "zero-times-infinity": (
        "multiplies 0 by infinity, which is NaN",
        "Use a finite constant (-1e9 in float32, -3e4 in float16), or choose with "
        "ops.where(mask, x, low) in place of multiplying by the mask.",
    ),
    "infinite-operand": (
        "makes NaN of infinity (infinity minus infinity, a softmax over nothing but -infinity)",
        "Use a finite constant for the mask (-1e9 in float32, -3e4 in float16), and leave at least "
        "one entry of every row unmasked.",
    ),
    "empty-operand": (
        "gets nothing: a mean of no entries is 0 / 0",
        "Leave empty selections out, or divide by ops.maximum(count, 1).",
    ),
    "other": (
        "makes it from finite values",
        "Look at what goes into this operation; tf.debugging.enable_check_numerics() stops there.",
    ),
}


# What takes the place of the operation; `x` is its argument.
_CODE: dict[Cause, str] = {
    "root-at-zero": "ops.sqrt(x + 1e-6)",
    "root-of-negative": "ops.sqrt(ops.maximum(x, 1e-6))",
    "log-of-zero": "ops.log(ops.maximum(x, 1e-7))",
    "log-of-exponentials": "ops.logsumexp(ops.log(w) + a, axis)",
    "log-of-negative": "x = ops.softplus(x) + 1e-6",
    "division-by-zero": "y / ops.maximum(x, 1e-7)",
    "power-of-zero": "ops.power(x + 1e-6, p)",
    "power-of-negative": "ops.power(ops.maximum(x, 1e-6), p)",
    "exp-overflow": "ops.exp(ops.clip(x, -20, 20))",
}


def code_for(origin: NonFiniteOrigin) -> str | None:
    """The guarded operation in code, where its cause says what that is."""
    return _CODE.get(origin.cause)


def guard(origin: NonFiniteOrigin) -> str:
    """What to write in place of the operation."""
    return _TOLD[origin.cause][1]


def describe(origin: NonFiniteOrigin) -> str:
    """One sentence: which operation, where, and what it did."""
    happened = _TOLD[origin.cause][0]
    if origin.cause == "data":
        return f"{happened}{f', in the batch of step {origin.step:,}' if origin.step else ''}."
    come = f"first came at step {origin.step:,}" if origin.step else "comes"
    where = f"of {origin.layer}" if origin.layer else "of the model's own code"
    if origin.place == "loss":
        where = "of the loss"
    code = f" ({origin.code})" if origin.code else ""
    back = " in the backward pass" if origin.direction == "backward" else ""
    operand = ""
    if origin.cause in ("exp-overflow", "float16-overflow", "overflow") and origin.operand:
        operand = f" (its argument reaches {origin.operand:.3g})"
    return (
        f"NaN or Inf {come} from the operation {origin.operation} {where}{code}{back}: "
        f"it {happened}{operand}."
    )
