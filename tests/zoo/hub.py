"""Backbones of keras_hub from small configurations, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from tests.zoo.exam import Exam

_TEXT = {
    "vocabulary_size": 20,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
}
_DECODER = {
    "vocabulary_size": 20,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
}
_IMAGE = (32, 32, 3)
_LENGTH = 8
_SAMPLES = 2


def backbone(name: str, **config: Any) -> Exam:
    from keras_hub import models

    return exam(getattr(models, name)(**config))


def exam(model: keras.Model) -> Exam:
    """Squared error against noise, for whatever the model takes and gives."""
    rng = np.random.default_rng(0)
    x = keras.tree.map_structure(lambda spec: _made_up(spec, rng), model.input)
    outputs = model(x)
    if isinstance(outputs, dict):  # as compile wants it: a loss a name
        if set(model.output_names) != set(outputs):  # one layer gives several outputs
            named = {k: keras.layers.Identity(name=k)(v) for k, v in model.output.items()}
            model = keras.Model(model.input, named)
        y = {k: _noise(o, rng) for k, o in outputs.items()}
        model.compile("adam", dict.fromkeys(y, "mse"))
    else:
        y = _noise(outputs, rng)
        model.compile("adam", "mse")
    return Exam(model, x, y)


def _noise(output: Any, rng: np.random.Generator) -> np.ndarray:
    """Labels that the output can reach, one that ends in tanh or in ReLU too."""
    noise = np.tanh(0.5 * rng.standard_normal(tuple(output.shape))).astype("float32")
    return np.abs(noise) if np.min(output) >= 0 else noise


def _made_up(spec: Any, rng: np.random.Generator, samples: int = _SAMPLES) -> np.ndarray:
    name = spec.name
    shape = (samples, *(d or _LENGTH for d in spec.shape[1:]))
    if "mask" in name:
        return np.ones(shape, spec.dtype)
    if "segment" in name or "mask_positions" in name:
        return np.zeros(shape, "int32")
    if "int" in spec.dtype:
        return rng.integers(1, 20, shape).astype("int32")
    return rng.standard_normal(shape).astype("float32")


def mobilenet() -> Exam:
    return backbone(
        "MobileNetBackbone",
        stackwise_expansion=[[8, 12], [16, 24]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[8, 8], [12, 12]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=16,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=16,
        squeeze_and_excite=0.5,
        input_num_filters=8,
        image_shape=_IMAGE,
    )


def efficientnet() -> Exam:
    return backbone(
        "EfficientNetBackbone",
        stackwise_width_coefficients=[1.0] * 2,
        stackwise_depth_coefficients=[1.0] * 2,
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[2, 2],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 16],
        stackwise_expansion_ratios=[1, 4],
        stackwise_strides=[1, 2],
        stackwise_block_types=["fused", "unfused"],
        stackwise_squeeze_and_excite_ratios=[0, 0.25],
        stackwise_force_input_filters=[0, 0],
        stackwise_nores_option=[False, False],
        input_shape=_IMAGE,
    )


def resnet_config(**changes: Any) -> dict[str, Any]:
    return {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 64],
        "stackwise_num_blocks": [2, 2],
        "stackwise_num_strides": [1, 2],
        "block_type": "basic_block",
        "use_pre_activation": False,
        "image_shape": _IMAGE,
    } | changes


def hgnet() -> Exam:
    return backbone(
        "HGNetV2Backbone",
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[16, 32],
        stem_channels=[3, 4, 8],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(8, 4, 16, 1, 1, 3), (16, 8, 32, 1, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
        image_shape=_IMAGE,
    )


def mit(**changes: Any) -> Any:
    from keras_hub import models

    return models.MiTBackbone(
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        image_shape=_IMAGE,
        hidden_dims=[8, 16],
        **changes,
    )


def segformer() -> Exam:
    return backbone("SegFormerBackbone", image_encoder=mit(), projection_filters=8)


def deeplab() -> Exam:
    from keras_hub import models

    config = resnet_config(stackwise_num_filters=[64, 64, 64], stackwise_num_blocks=[1] * 3)
    encoder = models.ResNetBackbone(**config | {"stackwise_num_strides": [1, 2, 2]})
    return backbone(
        "DeepLabV3Backbone",
        image_encoder=encoder,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P4",
        dilation_rates=[2, 4],
        upsampling_size=4,
        image_shape=_IMAGE,
    )


def clip(kind: str) -> Exam:
    from keras_hub import models

    vision = getattr(models, f"{kind}VisionEncoder")(
        patch_size=8,
        hidden_dim=16,
        num_layers=2,
        num_heads=2,
        intermediate_dim=32,
        image_shape=_IMAGE,
    )
    text = getattr(models, f"{kind}TextEncoder")(
        vocabulary_size=20,
        embedding_dim=16,
        hidden_dim=16,
        num_layers=2,
        num_heads=2,
        intermediate_dim=32,
        max_sequence_length=_LENGTH,
    )
    projection = {"projection_dim": 8} if kind == "CLIP" else {}
    return backbone(f"{kind}Backbone", vision_encoder=vision, text_encoder=text, **projection)


def stable_diffusion_vae() -> Exam:
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone

    filters = [32, 32]
    model = VAEBackbone(filters, [1, 1], filters, [1, 1])
    images = keras.Input((16, 16, 3))
    return exam(keras.Model(images, model(images)))


def stable_diffusion_transformer() -> Exam:
    from keras_hub.src.models.stable_diffusion_3.mmdit import MMDiT

    model = MMDiT(
        patch_size=2,
        hidden_dim=16,
        num_layers=2,
        num_heads=2,
        position_size=8,
        latent_shape=(8, 8, 4),
        context_shape=(None, 12),
        pooled_projection_shape=(10,),
    )
    return exam(model)


def pali_gemma() -> Exam:
    return backbone(
        "PaliGemmaBackbone",
        **_DECODER,
        image_size=16,
        head_dim=4,
        vit_patch_size=8,
        vit_num_heads=2,
        vit_hidden_dim=16,
        vit_num_layers=1,
        vit_intermediate_dim=16,
    )


def _of(name: str, config: dict[str, Any], **more: Any) -> Callable[[], Exam]:
    return partial(backbone, f"{name}Backbone", **config | more)


_VIT = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "image_shape": _IMAGE}
_EIGHT = {"max_sequence_length": _LENGTH}


def classifier(name: str, **config: Any) -> Exam:
    """Six blocks of usual proportions, with a head for four classes, as it is fine-tuned."""
    from keras_hub import models

    body = getattr(models, f"{name}Backbone")(**config)
    rng = np.random.default_rng(0)
    x = keras.tree.map_structure(lambda spec: _made_up(spec, rng, 8), body.input)
    h = body.output
    h = h.get("pooled_output", h.get("sequence_output")) if isinstance(h, dict) else h
    h = keras.layers.GlobalAveragePooling1D()(h) if len(h.shape) == 3 else h
    model = keras.Model(body.input, keras.layers.Dense(4, activation="softmax")(h))
    model.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    return Exam(model, x, np.arange(8) % 4)


_WIDE_TEXT = {
    "vocabulary_size": 1000,
    "num_layers": 6,
    "num_heads": 8,
    "hidden_dim": 256,
    "intermediate_dim": 1024,
    "max_sequence_length": _LENGTH,
}
_WIDE_DECODER = {
    "vocabulary_size": 1000,
    "num_layers": 6,
    "num_query_heads": 8,
    "num_key_value_heads": 4,
    "hidden_dim": 256,
    "intermediate_dim": 700,
}
_WIDE_VIT = {"patch_size": 8, "num_layers": 6, "num_heads": 4, "hidden_dim": 128, "mlp_dim": 512}

CLASSIFIERS: dict[str, Callable[[], Exam]] = {
    "BERT classifier": partial(classifier, "Bert", **_WIDE_TEXT),
    "DeBERTaV3 classifier": partial(classifier, "DebertaV3", **_WIDE_TEXT),
    "Gemma classifier": partial(classifier, "Gemma", head_dim=32, **_WIDE_DECODER),
    "GPT-2 classifier": partial(classifier, "GPT2", **_WIDE_TEXT),
    "Llama classifier": partial(classifier, "Llama", **_WIDE_DECODER),
    "RoBERTa classifier": partial(classifier, "Roberta", **_WIDE_TEXT),
    "ViT classifier": partial(classifier, "ViT", image_shape=_IMAGE, **_WIDE_VIT),
}

HUB: dict[str, Callable[[], Exam]] = {
    "ALBERT": _of("Albert", _TEXT, embedding_dim=8, **_EIGHT),
    "BART": _of("Bart", _TEXT, **_EIGHT),
    "BERT": _of("Bert", _TEXT, **_EIGHT),
    "BLOOM": _of("Bloom", _TEXT),
    "CLIP": lambda: clip("CLIP"),
    "CSPNet": _of(
        "CSPNet",
        {},
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 1],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[8, 16],
        stage_type="dark",
        block_type="dark_block",
        image_shape=_IMAGE,
    ),
    "DeBERTaV3": _of("DebertaV3", _TEXT, bucket_size=8, **_EIGHT),
    "DeepLabV3": deeplab,
    "DeiT": _of("DeiT", _VIT, intermediate_dim=32),
    "DenseNet": _of(
        "DenseNet", {}, stackwise_num_repeats=[2, 2], growth_rate=8, image_shape=_IMAGE
    ),
    "DINOv2": _of("DINOV2", _VIT, intermediate_dim=32, position_embedding_shape=_IMAGE),
    "DistilBERT": _of("DistilBert", _TEXT, **_EIGHT),
    "EfficientNet": efficientnet,
    "ELECTRA": _of(
        "Electra",
        {k: v for k, v in _TEXT.items() if k != "vocabulary_size"},
        vocab_size=20,
        embedding_dim=8,
        **_EIGHT,
    ),
    "ESM2": _of("ESM", _TEXT),
    "Falcon": _of(
        "Falcon",
        {k: v for k, v in _TEXT.items() if k != "num_heads"},
        num_attention_heads=2,
    ),
    "FNet": _of("FNet", {k: v for k, v in _TEXT.items() if k != "num_heads"}, **_EIGHT),
    "Gemma": _of("Gemma", _DECODER, head_dim=4),
    "Gemma3, text": _of("Gemma3", _DECODER, head_dim=4, image_size=16),
    "GPT-2": _of("GPT2", _TEXT, **_EIGHT),
    "GPT-NeoX": _of("GPTNeoX", _TEXT, **_EIGHT),
    "HGNetV2": hgnet,
    "Llama": _of("Llama", _DECODER),
    "Mistral": _of("Mistral", _DECODER, sliding_window=4),
    "MiT": lambda: exam(mit()),
    "Mixtral": _of("Mixtral", _DECODER, num_experts=2, top_k=1),
    "MobileNet": mobilenet,
    "OPT": _of("OPT", _TEXT, **_EIGHT),
    "PaliGemma": pali_gemma,
    "Phi-3": _of("Phi3", _DECODER),
    "Qwen": _of("Qwen", _DECODER),
    "ResNet": _of("ResNet", resnet_config()),
    "ResNetV2, bottleneck": _of(
        "ResNet", resnet_config(block_type="bottleneck_block", use_pre_activation=True)
    ),
    "RoBERTa": _of("Roberta", _TEXT, **_EIGHT),
    "RoFormerV2": _of("RoformerV2", _TEXT, head_size=8),
    "SegFormer": segformer,
    "SigLIP": lambda: clip("SigLIP"),
    "Stable Diffusion 3 MMDiT": stable_diffusion_transformer,
    "Stable Diffusion 3 VAE": stable_diffusion_vae,
    "Swin": _of(
        "SwinTransformer",
        {},
        image_shape=_IMAGE,
        embed_dim=8,
        depths=(1, 1),
        num_heads=(1, 2),
        window_size=4,
    ),
    "T5": _of("T5", _TEXT),
    "VGG": _of(
        "VGG", {}, stackwise_num_repeats=[1, 1], stackwise_num_filters=[8, 16], image_shape=_IMAGE
    ),
    "ViT": _of("ViT", _VIT, mlp_dim=32),
    "Whisper": _of(
        "Whisper",
        _TEXT,
        max_encoder_sequence_length=16,
        max_decoder_sequence_length=_LENGTH,
        num_mels=8,
    ),
    "XLNet": _of("XLNet", _TEXT),
}
