import keras
import numpy as np

import gradscope

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(4096, 20)).astype("float32")
y = x[:, :5].sum(axis=1)
x[3500] *= 1000  # one sample in another unit

model = keras.Sequential(
    [
        keras.Input((20,)),
        keras.layers.Dense(32, "relu"),
        keras.layers.Dense(1),
    ]
)
model.compile("adam", "mse")
monitor = gradscope.Monitor(log_freq=8)
model.fit(x, y, shuffle=False, verbose=0, callbacks=[monitor])
