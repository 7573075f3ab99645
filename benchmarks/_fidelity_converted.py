"""Define pairs made by `convert`, in both directions: the planner must find the alignment without hints.

The torch modules of `_zoo` (a list of small architectures) are converted to Keras, and models of `keras.applications`
to torch. The plan of the conversion is not used: a pair is aligned, transferred and proven like every other one.
"""

from functools import partial

from benchmarks._fidelity import Entry, Pair, randomised

TO_KERAS = (
    "alexnet",
    "resnet18",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "efficientnet_b0",
    "regnet_y_400mf",
    "VisionTransformer",
    "lraspp_mobilenet_v3_large",
    "r3d_18",
    "BERT",
    "DistilBERT",
    "ALBERT",
    "ELECTRA",
    "RoBERTa",
    "MobileBERT",
    "FNet",
    "GPT-2",
    "GPT-NeoX",
    "OPT",
    "Llama",
    "Mistral",
    "Qwen2",
    "Gemma",
    "Phi",
    "Falcon",
    "T5",
    "BART",
    "ViT",
    "ConvNeXt",
    "SegFormer",
    "PoolFormer",
    "Whisper",
    "LSTM classifier",
    "GRU classifier",
    "U-Net",
    "variational autoencoder",
    "WaveNet",
    "DCGAN generator",
    "MLP-Mixer",
    "PointNet",
    "recommender",
)
"""The modules of the zoo that are converted to Keras, by name."""

TO_TORCH = {
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "DenseNet121": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "ConvNeXtTiny": 64,
    "InceptionV3": 96,
    "Xception": 96,
}
"""Models of `keras.applications`, each with the size of its images."""


def to_keras(name: str) -> Pair:
    """Return a torch module of the zoo (`_zoo`) and the Keras model converted from it.

    The Keras model lacks the tensors on which no output depends, and holds some others as constants: the conversion
    names both, each with the reason.
    """
    import keras3conv as k3c
    from benchmarks._zoo import architectures

    module, inputs = architectures()[name].build()
    module = randomised(module)
    made = k3c.convert(module, inputs=inputs, validate=False)
    without = {entry.path: entry.reason for entry in made.plan.ignored if entry.side == "torch"}
    return Pair(torch=module, keras=made.model, inputs=inputs, without=without)


def to_torch(name: str, size: int) -> Pair:
    """Return a model of `keras.applications` and the torch module converted from it."""
    import keras

    import keras3conv as k3c

    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    made = k3c.convert(model, validate=False)
    return Pair(torch=randomised(made.model), keras=model, inputs=made.inputs)


ENTRIES = (
    *(Entry(name=f"{name}, to Keras", build=partial(to_keras, name)) for name in TO_KERAS),
    *(Entry(name=f"{name}, to torch", build=partial(to_torch, name, size)) for name, size in TO_TORCH.items()),
)
