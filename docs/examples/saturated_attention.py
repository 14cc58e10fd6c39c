import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(1024, 12, 8)).astype("float32")
y = x[:, :, 0].max(axis=1)  # the largest of twelve

inputs = keras.Input((12, 8))
h = keras.layers.LayerNormalization()(keras.layers.Dense(32)(inputs))
attention = keras.layers.MultiHeadAttention(4, 8)
h = keras.layers.Add()([h, attention(h, h)])
h = keras.layers.GlobalAveragePooling1D()(h)
model = keras.Model(inputs, keras.layers.Dense(1)(h))
attention.query_dense.kernel.assign(100.0 * attention.query_dense.kernel)
model.compile("adam", "mse")
