"""Run by test_distributed.py: one worker of several analyses a model; prints its layers as JSON.

python worker.py INDEX PORT,PORT FOLDER      (without INDEX PORTS: on its own)
"""

import json
import os
import sys

folder = sys.argv[-1]
if len(sys.argv) > 2:
    workers = [f"localhost:{port}" for port in sys.argv[2].split(",")]
    task = {"type": "worker", "index": int(sys.argv[1])}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})

import keras  # noqa: E402 - the cluster is read when TensorFlow starts
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import gradscope  # noqa: E402
from gradscope.records.codec import to_plain  # noqa: E402

alone = len(sys.argv) == 2
strategy = tf.distribute.get_strategy() if alone else tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(8, "relu", name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(2, name="out"),
        ]
    )
    model.compile("adam", "mse")
x = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
report = gradscope.analyze(model, x, x[:, :2])
report.to_json(os.path.join(folder, "report.json"))
refused = ""
if not alone:
    try:
        model.fit(x, x[:, :2], verbose=0, callbacks=[gradscope.Monitor(2)])
    except Exception as error:
        refused = str(error)
print(json.dumps({"layers": to_plain(report.layers), "refused": refused}))
