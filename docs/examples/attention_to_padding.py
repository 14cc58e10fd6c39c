import keras
import numpy as np


class Scale(keras.layers.Layer):
    """Forgets the mask: it does not say `self.supports_masking = True`."""

    def call(self, x):
        return 8.0 * x


keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.integers(1, 50, (1024, 20))
y = (x[:, 0] < 25).astype("float32")
x[np.arange(20) >= rng.integers(3, 21, 1024)[:, None]] = 0  # padding

inputs = keras.Input((20,), dtype="int32")
h = Scale()(keras.layers.Embedding(50, 32, mask_zero=True)(inputs))
h = keras.layers.MultiHeadAttention(2, 16)(h, h)
h = keras.layers.GlobalAveragePooling1D()(h)
model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(h))
model.compile("adam", "binary_crossentropy")
