"""Everything random from one seed, for a while."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random import seed_generator as keras_seeds
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import context

from gradscope.backend.isolation import patched, restorers

_KERAS_SEED = "global_random_seed"
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
    eager = context.context()
    eager.ensure_initialized()
    pywrap_tfe.TFE_ContextClearCaches(eager._context_handle)
    _streams["begun"] = False


@contextmanager
def seeded(seed: int, generator: Any = None) -> Iterator[Any]:
    """Everything random starts from `seed` inside, and goes on as if nothing had been outside.

    Yields:
        Keras's global seed generator: `generator` where given, because a traced function holds on
        to the one it was traced with.
    """
    eager = context.context()
    kept = global_state.get_global_attribute(_KERAS_SEED)
    with ExitStack() as stack:
        for restore in restorers():
            stack.callback(restore)
        stack.callback(global_state.set_global_attribute, _KERAS_SEED, kept)
        # Python's generator is shared by all threads, such as those of a cluster's worker.
        own = random.Random(seed)
        stack.enter_context(
            patched(
                [
                    (eager, "_seed", seed),
                    (eager, "_rng", _Noting(seed)),
                    (keras_seeds, "python_random", own),
                ]
            )
        )
        if _streams["begun"]:
            forget_streams()
        random.seed(seed)
        np.random.seed(seed)
        global_state.set_global_attribute(_KERAS_SEED, seed)
        if generator is None:
            generator = keras.random.SeedGenerator(seed, name="trial_seed_generator")
        generator.state.assign([seed, 0])
        global_state.set_global_attribute("global_seed_generator", generator)
        yield generator
