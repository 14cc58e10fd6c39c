"""Everything random from one seed, for a while."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.random import seed_generator as keras_seeds
from tensorflow.python.eager import context

from gradscope.isolation import patched, restorers

_KERAS_SEED = "global_random_seed"


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
                [(eager, "_seed", None), (eager, "_rng", None), (keras_seeds, "python_random", own)]
            )
        )
        keras.utils.set_random_seed(seed)
        if generator is None:
            generator = keras.random.SeedGenerator(seed, name="trial_seed_generator")
        generator.state.assign([seed, 0])
        global_state.set_global_attribute("global_seed_generator", generator)
        yield generator
