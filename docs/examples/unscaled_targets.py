import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(1024, 20)).astype("float32")
y = x[:, :5].sum(axis=1)
y = 200_000 + 30_000 * y  # prices of houses

model = keras.Sequential(
    [
        keras.Input((20,)),
        keras.layers.Dense(64, "relu"),
        keras.layers.Dense(1),
    ]
)
model.compile("adam", "mse")
