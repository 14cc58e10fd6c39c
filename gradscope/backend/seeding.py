"""Everything random from one seed, for a while."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from gradscope.backend import keras_private, tensorflow_private
from gradscope.backend.isolation import patched, restorers
from gradscope.backend.keras_private import set_global_attribute

_streams = {"begun": True}  # whether operations of TensorFlow that remember may have drawn


class _Noting(random.Random):
    """Seeds for TensorFlow's operations; notes that one was asked for."""

    def randint(self, a: int, b: int) -> int:
        _streams["begun"] = True
        return super().randint(a, b)


def forget_streams() -> None:
    """Let TensorFlow's operations that remember how often they drew begin anew from their seeds.

    It is what `tf.random.set_seed` does. Every compiled function has to be prepared again as well,
    which takes as long as hundreds of steps of a small model, so it is not done for every seed.
    """
    tensorflow_private.forget_streams()
    _streams["begun"] = False


@contextmanager
def seeded(seed: int, generator: Any = None) -> Iterator[Any]:
    """Everything random starts from `seed` inside, and goes on as if nothing had been outside.

    Yields:
        Keras's global seed generator: `generator` where given, because a traced function holds on
        to the one it was traced with.

    Raises:
        Unavailable: Keras's random numbers cannot be set and put back.
    """
    keras_private.GLOBAL_STATE.require()
    kept = keras_private.global_attribute(keras_private.SEED)
    with ExitStack() as stack:
        for restore in restorers():
            stack.callback(restore)
        stack.callback(set_global_attribute, keras_private.SEED, kept)
        # Python's generator is shared by all threads, such as those of a cluster's worker.
        own = random.Random(seed)
        of_operations = tensorflow_private.operation_seeds(seed, _Noting(seed))
        stack.enter_context(patched([*of_operations, keras_private.seed_source(own)]))
        if _streams["begun"]:
            forget_streams()
        random.seed(seed)
        np.random.seed(seed)
        set_global_attribute(keras_private.SEED, seed)
        if generator is None:
            generator = keras.random.SeedGenerator(seed, name="trial_seed_generator")
        generator.state.assign([seed, 0])
        set_global_attribute(keras_private.SEED_GENERATOR, generator)
        yield generator
