import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(1024, 20)).astype("float32")
y = (x[:, :5].sum(axis=1) > 0).astype("float32")

model = keras.Sequential(
    [
        keras.Input((20,)),
        *(
            keras.layers.Dense(
                64, "tanh", kernel_initializer=keras.initializers.RandomNormal(stddev=3.0)
            )
            for _ in range(2)
        ),
        keras.layers.Dense(1, "sigmoid"),
    ]
)
model.compile("adam", "binary_crossentropy")
