"""Where a snapshot goes besides the report: TensorBoard, or a tracker of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gradscope.records import LayerProfile, Snapshot, TensorStats

Sink = Callable[[Snapshot], None]
LogTo = Callable[[dict[str, float], int], None]


def make_sink(log_to: LogTo) -> Sink:
    """A sink that hands the numbers of each snapshot to a tracker's own `log`."""
    return lambda snapshot: log_to(list_scalars(snapshot), snapshot.step)


def list_scalars(snapshot: Snapshot) -> dict[str, float]:
    """The numbers of a snapshot as "<quantity>/<weight or layer path>", without those missing."""
    found = {"run/loss": snapshot.loss, "run/gradient_norm": snapshot.gradient_norm}
    for layer in snapshot.layers:
        found |= _scalars_of(layer)
    return {name: value for name, value in found.items() if value is not None}


def _scalars_of(layer: LayerProfile) -> dict[str, float | None]:
    where = layer.label
    found: dict[str, float | None] = {
        f"dead_fraction/{where}": layer.dead_fraction,
        f"saturated_fraction/{where}": layer.saturated_fraction,
    }
    for name, path, stats in list_tensors(layer):
        found[f"{name}_norm/{path}"] = stats.l2_norm
    for weight in layer.weights if layer.call == 0 else ():
        found[f"update_ratio/{weight.path}"] = weight.update_ratio
    return found


def list_tensors(layer: LayerProfile) -> Iterator[tuple[str, str, TensorStats]]:
    """The tensors of a layer that are logged: quantity, weight or layer path, statistics."""
    where = layer.label
    held = [
        ("activation", where, layer.output),
        ("activation_gradient", where, layer.activation_gradient),
    ]
    for weight in layer.weights if layer.call == 0 else ():
        held += [("gradient", weight.path, weight.gradient), ("weight", weight.path, weight.value)]
    for name, path, stats in held:
        if stats is not None:
            yield name, path, stats
