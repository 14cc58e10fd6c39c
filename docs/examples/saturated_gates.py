import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(512, 50, 4)).astype("float32")
y = x[:, 0].sum(axis=1)  # what the first time step says

model = keras.Sequential(
    [
        keras.Input((50, 4)),
        keras.layers.LSTM(
            32, bias_initializer=keras.initializers.Constant(-12.0), unit_forget_bias=False
        ),
        keras.layers.Dense(1),
    ]
)
model.compile("adam", "mse")
