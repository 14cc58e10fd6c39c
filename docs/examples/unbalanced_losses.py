import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(1024, 20)).astype("float32")
y = x[:, :5].sum(axis=1)

inputs = keras.Input((20,))
hidden = keras.layers.Dense(64, "relu")(inputs)
heads = {name: keras.layers.Dense(1, name=name)(hidden) for name in ("price", "rating")}
model = keras.Model(inputs, heads)
model.compile("adam", {"price": "mse", "rating": "mse"})
y = {"price": 1e4 * y, "rating": y}
