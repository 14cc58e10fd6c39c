"""Everything an analysis might change, bit for bit."""

from __future__ import annotations

import random

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state


class Snapshot:
    """All that an analysis might change; compare two with `differences`."""

    def __init__(self, model: keras.Model):
        self.owners = {f"layer {n} {v.name}": v for n, v in enumerate(model._flatten_layers())}
        if getattr(model, "optimizer", None) is not None:
            self.owners["optimizer"] = model.optimizer
        self.attributes = {name: dict(vars(owner)) for name, owner in self.owners.items()}
        self.values = {f"variable {n}": v for n, v in enumerate(bytes_of(model))}
        self.values.update(process_state())
        self.values["trainable"] = [layer.trainable for layer in model._flatten_layers()]
        self.values["losses"] = [len(layer._losses) for layer in model._flatten_layers()]

    def differences(self, other: Snapshot) -> list[str]:
        changed = [k for k in self.values if self.values[k] != other.values[k]]
        for name, before in self.attributes.items():
            after = other.attributes[name]
            changed += [f"{name}.{k}" for k in before.keys() ^ after.keys()]
            changed += [
                f"{name}.{k}"
                for k in before.keys() & after.keys()
                if before[k] is not after[k] and not same_number(before[k], after[k])
            ]
        return changed


def same_number(a, b) -> bool:
    return isinstance(a, (int, float, str)) and type(a) is type(b) and a == b


def bytes_of(model: keras.Model) -> list[bytes]:
    held = [*model.variables, *model.metrics_variables]
    if getattr(model, "optimizer", None) is not None:
        held += model.optimizer.variables
    # Some are in none of Keras's lists: plain tf.Variables, and the states of a stateful RNN.
    attributes = [value for layer in model._flatten_layers() for value in vars(layer).values()]
    plain = [
        v
        for value in attributes
        for v in (keras.tree.flatten(value) if isinstance(value, (list, tuple)) else [value])
        if isinstance(v, (tf.Variable, keras.Variable))
    ]
    return [np.asarray(v.numpy()).tobytes() for v in (*held, *plain)]


def global_keras_state() -> dict[str, object]:
    """Scopes, policies and whatever else Keras keeps by thread; what is empty counts as absent."""
    tracked = vars(global_state.GLOBAL_STATE_TRACKER)
    apart = ("global_seed_generator", "object_name_uids")  # these are compared by value
    return {
        name: [id(v) for v in value] if isinstance(value, (list, tuple)) else value
        for name, value in tracked.items()
        if value and name not in apart
    }


def process_state() -> dict[str, object]:
    generator = global_state.get_global_attribute("global_seed_generator")
    return {
        "eagerly": tf.config.functions_run_eagerly(),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),
        "keras seed": None if generator is None else generator.state.numpy().tobytes(),
        "names": dict(global_state.get_global_attribute("object_name_uids") or {}),
        "keras": global_keras_state(),
        "tensorflow scope": tf.get_current_name_scope(),
        "dtype policy": keras.config.dtype_policy().name,
        "float type": keras.config.floatx(),
    }
