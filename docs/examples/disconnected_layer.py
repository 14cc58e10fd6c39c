import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(1024, 20)).astype("float32")
y = (x[:, :5].sum(axis=1) > 0).astype("float32")

inputs = keras.Input((20,))
hidden = keras.layers.Dense(32, "relu", name="features")(inputs)
hidden = keras.ops.stop_gradient(hidden)
model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(hidden))
model.compile("adam", "binary_crossentropy")
