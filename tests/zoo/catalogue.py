"""All exams by group and name, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable

from tests.zoo.applications import LARGE, QUICK, SLOW
from tests.zoo.exam import Exam
from tests.zoo.examples import EXAMPLES
from tests.zoo.hub import CLASSIFIERS, HUB
from tests.zoo.layer_kinds import LAYER_KINDS
from tests.zoo.own_steps import OWN_STEPS

GROUPS: dict[str, dict[str, Callable[[], Exam]]] = {
    "keras.applications, small images": QUICK | SLOW,
    "keras_hub backbones": HUB,
    "keras_hub classifiers": CLASSIFIERS,
    "kinds of keras.io examples": EXAMPLES,
    "models with a train_step of their own": OWN_STEPS,
    "unusual layers": LAYER_KINDS,
}
# Measured for docs/zoo.md only: the same architectures wider, deeper or on full images.
LARGER = {"keras.applications, larger": LARGE}

# Why a model cannot be examined, in the words of the refusal.
REFUSED = {"float8 Dense": "computes in float8"}
# Findings at error on fresh models, by group, and why they are raised.
KNOWN_ERRORS = {
    "keras_hub backbones": {
        # True: the weight that stands for masked tokens has no use where none is masked; keys and
        # queries of so narrow a model are too small to matter at the start.
        "XLNet": ("disconnected-layer", "learning-speed-imbalance"),
        # True: they end in silu and hard_silu, which stay above -0.28 and -0.38, and more than a
        # third of the made-up labels lie below.
        "EfficientNet": ("mismatched-loss",),
        "MobileNet": ("mismatched-loss",),
    },
    "unusual layers": {
        # True: its output is that of tanh, and a third of the made-up labels lie beyond 1.
        "LSTM states handed on": ("mismatched-loss",),
    },
}
