"""The archive of recordings, a member a case, and the profiles a watcher would have seen."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_LZMA, ZipFile, ZipInfo

import numpy as np

from gradscope.records import (
    Curve,
    DataCard,
    History,
    LayerProfile,
    LossCard,
    ModelCard,
    Profile,
    Snapshot,
)
from gradscope.records.codec import from_plain, to_plain

ARCHIVE = Path(__file__).with_name("recorded.zip")
# What the symptoms read of a layer, beside its name; numbers to three digits.
KEPT = ("class_", "call", "activation", "trainable", "depth", "inputs", "update_ratio",
        "sample_variation", "dead_fraction", "gate_saturated_fraction")  # fmt: skip
# Of the mantissa: 0.02 % and 0.2 %.
BITS = {"loss": 11, "gradient_norm": 8, "learning_rate": 11, "batch_constant": 11}


@dataclass(frozen=True, slots=True)
class Recording:
    """One run: numbers of every step, and profiles of some."""

    loss: np.ndarray
    gradient_norm: np.ndarray
    learning_rate: np.ndarray
    batch_constant: np.ndarray  # NaN where it is not known
    looks: tuple[tuple[int, Profile], ...]
    score: float
    constant_loss: float | None

    @property
    def num_steps(self) -> int:
        return len(self.loss)

    def seen(self, step: int, bin_size: int = 1, *, constant: bool = True) -> Profile:
        """What a watcher has seen after `step` steps, `bin_size` steps sharing a bin."""
        looks = [(at, profile) for at, profile in self.looks if at <= step]
        losses = self.loss[:step]
        snapshots = tuple(
            Snapshot(
                at,
                0,
                finite_or_none(self.loss[at - 1]),
                finite_or_none(self.gradient_norm[at - 1]),
                p.layers,
            )
            for at, p in looks
        )
        history = History(
            num_steps=step,
            num_planned_steps=self.num_steps,
            loss=curve(losses, bin_size),
            gradient_norm=curve(self.gradient_norm[:step], bin_size),
            learning_rate=curve(self.learning_rate[:step], bin_size),
            batch_constant=self._luck(step, bin_size),
            snapshots=snapshots,
            constant_loss=self.constant_loss if constant else None,
        )
        return dataclasses.replace(looks[-1][1], history=history)

    def _luck(self, step: int, bin_size: int) -> Curve:
        known = self.batch_constant[:step]
        return curve(known, bin_size) if np.isfinite(known).all() else Curve()


def curve(values: np.ndarray, bin_size: int = 1) -> Curve:
    """A curve as `Curve` describes it; the last bin may hold fewer steps."""
    if bin_size == 1:
        finite = np.isfinite(values)
        held = tuple(np.where(finite, values, None).tolist())
        missing = tuple((~finite).astype(int).tolist())
        return Curve(tuple(range(1, len(held) + 1)), held, held, held, missing)
    ends = [min(n + bin_size, len(values)) for n in range(0, len(values), bin_size)]
    parts = [values[max(0, e - 1) // bin_size * bin_size : e] for e in ends]
    finite = [p[np.isfinite(p)] for p in parts]

    def each(rule: Any) -> tuple[float | None, ...]:
        return tuple(float(rule(f)) if len(f) else None for f in finite)

    return Curve(
        steps=tuple(ends),
        mean=each(np.mean),
        minimum=each(np.min),
        maximum=each(np.max),
        num_non_finite=tuple(len(p) - len(f) for p, f in zip(parts, finite, strict=True)),
    )


def finite_or_none(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def list_recorded() -> list[str]:
    """The names of the recorded cases."""
    with ZipFile(ARCHIVE) as archive:
        return [member.removesuffix(".npz") for member in archive.namelist()]


def keep(name: str, runs: Sequence[dict[str, Any]]) -> None:
    """Write the runs of a case, as `record.py` makes them, one a seed."""
    card = runs[0]["looks"][1]
    header = {
        "model": to_plain(card.model),
        "loss": to_plain(dataclasses.replace(card.loss, value=0.0)),
        "constant_loss": runs[0]["constant_loss"],
        "scores": [finite_or_none(run["score"]) for run in runs],
        "data": to_plain(card.data),
        "looks": [
            {step: [_trimmed(layer) for layer in p.layers] for step, p in run["looks"].items()}
            for run in runs
        ],
    }
    arrays = {k: np.stack([rounded(run[k], bits) for run in runs]) for k, bits in BITS.items()}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    _write({**_read(), name: buffer.getvalue()})


def _read() -> dict[str, bytes]:
    with ZipFile(ARCHIVE) as archive:
        return {name: archive.read(f"{name}.npz") for name in list_recorded()}


def _write(cases: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, arrays in sorted(cases.items()):
            # A ZipInfo has a fixed date: the same cases make the same archive.
            archive.writestr(ZipInfo(f"{name}.npz"), arrays, ZIP_LZMA)
    ARCHIVE.write_bytes(buffer.getvalue())


def rounded(values: Sequence[float], bits: int) -> np.ndarray:
    """float32 with so many bits of the mantissa, which compress well."""
    exact = np.asarray(values, "float32")
    drop = 23 - bits
    half = np.uint32(1 << (drop - 1))
    mask = np.uint32(0xFFFFFFFF ^ ((1 << drop) - 1))
    near = ((exact.view("uint32") + half) & mask).view("float32")
    return np.where(np.isfinite(exact) & np.isfinite(near), near, exact)


def _trimmed(layer: LayerProfile) -> dict[str, Any]:
    plain = to_plain(layer)
    short = {key.rstrip("_"): plain.get(key, plain.get(key.rstrip("_"))) for key in KEPT}
    digits = {k: _short(v) if isinstance(v, float) else v for k, v in short.items()}
    if layer.timesteps is not None:
        gains = [_short(gain) for gain in layer.timesteps.recurrent_gain]
        digits["timesteps"] = {"gradient_rms": [], "recurrent_gain": gains, "half_life": None}
    return {"path": layer.path, **{k: v for k, v in digits.items() if v is not None}}


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def load(name: str) -> tuple[Recording, ...]:
    """The recorded runs of a case, one a seed."""
    with ZipFile(ARCHIVE) as archive:
        arrays = np.load(io.BytesIO(archive.read(f"{name}.npz")))
    header = json.loads(arrays["header"].tobytes())
    return tuple(
        Recording(
            *(arrays[k][n] for k in BITS),
            looks=tuple((int(s), _profile(header, layers)) for s, layers in looks.items()),
            score=np.nan if header["scores"][n] is None else header["scores"][n],
            constant_loss=header["constant_loss"],
        )
        for n, looks in enumerate(header["looks"])
    )


def _profile(header: dict[str, Any], layers: list[dict[str, Any]]) -> Profile:
    rest = {"activation": None, "output_shape": None}
    return Profile(
        model=from_plain(ModelCard, header["model"]),
        data=from_plain(DataCard, header["data"]),
        loss=from_plain(LossCard, header["loss"]),
        layers=tuple(from_plain(LayerProfile, {**rest, **layer}) for layer in layers),
    )
