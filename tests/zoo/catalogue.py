"""All exams by group and name, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable

from tests.zoo.applications import LARGE, QUICK, SLOW
from tests.zoo.exam import Exam
from tests.zoo.examples import EXAMPLES
from tests.zoo.hub import HUB
from tests.zoo.layer_kinds import LAYER_KINDS
from tests.zoo.own_steps import OWN_STEPS

GROUPS: dict[str, dict[str, Callable[[], Exam]]] = {
    "keras.applications, small images": QUICK | SLOW,
    "keras_hub backbones": HUB,
    "kinds of keras.io examples": EXAMPLES,
    "models with a train_step of their own": OWN_STEPS,
    "unusual layers": LAYER_KINDS,
}
# Measured for docs/zoo.md only: the same architectures wider, deeper or on full images.
LARGER = {"keras.applications, larger": LARGE}

# Why a model cannot be examined, in the words of the refusal.
REFUSED = {"float8 Dense": "computes in float8"}
# Findings at error on fresh models, and why they are raised: true of a part alone, or false alarms.
FALSE_ALARMS = {
    # True of the bare backbone: its table of logits is for the head, which is not there.
    "Llama": ("disconnected-layer",),
    "Mixtral": ("disconnected-layer",),
    # True: the labels of the exam are below zero and the output, a ReLU, is not.
    "SegFormer": ("mismatched-loss",),
    # Not looked into: may be a false alarm.
    "DeBERTaV3": ("exploding-gradient", "vanishing-gradient"),
    # B starts at zero, so that A has no gradient before the first step.
    "LoRA: Conv2D": ("learning-speed-imbalance",),
}
