"""keras.applications with random weights, on small images."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np

from tests.zoo.exam import Exam

# The smallest image that leaves the last feature maps more than one pixel: batch statistics over
# single pixels of four samples are no statistics.
_PIXELS = {"InceptionV3": 139, "InceptionResNetV2": 139, "Xception": 96}
_QUICK = ("MobileNetV3Small", "MobileNet", "ConvNeXtTiny", "VGG16")
_MIDDLE = (
    "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3",
    "MobileNetV2", "MobileNetV3Large", "NASNetMobile", "ResNet50", "ResNet50V2", "Xception",
)  # fmt: skip
# The same architectures wider or deeper: measured for docs/zoo.md only.
_LARGE = (
    "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtXLarge", "DenseNet169",
    "DenseNet201", "EfficientNetB1", "EfficientNetB2", "EfficientNetB3", "EfficientNetB4",
    "EfficientNetB5", "EfficientNetB6", "EfficientNetB7", "EfficientNetV2B1", "EfficientNetV2B2",
    "EfficientNetV2B3", "EfficientNetV2L", "EfficientNetV2M", "EfficientNetV2S", "NASNetLarge",
    "ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "VGG19",
)  # fmt: skip
_FULL = {"MobileNetV2": 224, "ResNet50": 224, "EfficientNetB0": 224}


def application(name: str, pixels: int | None = None, samples: int = 4) -> Exam:
    pixels = pixels or _PIXELS.get(name, 64)
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(pixels, pixels, 3), classes=10)
    model.compile("adam", "sparse_categorical_crossentropy")
    # Images in the range that the architecture's own preprocessing gives.
    images = np.random.default_rng(0).uniform(-1, 1, (samples, pixels, pixels, 3))
    if any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers):
        images = (images + 1) * 127.5
    return Exam(model, images.astype("float32"), np.arange(samples))


QUICK = {name: partial(application, name) for name in _QUICK}
SLOW = {name: partial(application, name) for name in _MIDDLE}
LARGE = {name: partial(application, name, samples=2) for name in _LARGE} | {
    f"{name} at {pixels} px": partial(application, name, pixels) for name, pixels in _FULL.items()
}
