import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.integers(1, 100, size=(2048, 16)).astype("float32")  # words by number
tone = rng.normal(size=100)[x.astype(int)].mean(axis=1)
y = (tone > np.median(tone)).astype("float32")

model = keras.Sequential(
    [
        keras.Input((16,)),
        keras.layers.Dense(64, "relu"),
        keras.layers.Dense(1, "sigmoid"),
    ]
)
model.compile("adam", "binary_crossentropy")
