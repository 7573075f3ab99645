"""List the classes of `keras.layers` and `torch.nn` without a rule, each with the reason.

The generated table of rules includes these classes. A test compares rules and lists with both namespaces, so that it
fails if a new version of a framework adds a class.
"""

from collections.abc import Mapping

AUGMENTATIONS = (
    "AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
    "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale",
    "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation",
    "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
)  # fmt: skip
"""The classes of `keras.layers` that augment images in training, and return them unchanged in inference.

`RandomCrop` is none of them: Keras infers the shape of the crop also where it returns the whole image.
"""

_NAMES_OF_AUGMENTATIONS = " ".join(AUGMENTATIONS)

_REASONS: Mapping[str, Mapping[str, str]] = {
    "torch.nn": {
        "Container Module ModuleDict ModuleList ParameterDict ParameterList Sequential": "holds layers or parameters; "
        "each is converted separately",
        "DataParallel": "wraps a module for several devices: convert the module inside",
        "AdaptiveLogSoftmaxWithLoss BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss "
        "GaussianNLLLoss HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss LinearCrossEntropyLoss MSELoss "
        "MarginRankingLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss NLLLoss2d "
        "PoissonNLLLoss SmoothL1Loss SoftMarginLoss TripletMarginLoss TripletMarginWithDistanceLoss": "a loss, which "
        "is not part of the deployed model",
        "CosineSimilarity PairwiseDistance": "a similarity or distance of two inputs, mostly used in a loss",
        "CrossMapLRN2d LocalResponseNorm": "Keras has no local response normalisation",
        "Fold Unfold": "overlapping patches as columns; no Keras layer returns them in this order",
        "FractionalMaxPool2d FractionalMaxPool3d": "pools random regions",
        "MaxUnpool1d MaxUnpool2d MaxUnpool3d": "needs the indices of a max pooling, which Keras does not return",
        "LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d LazyConv1d LazyConv2d LazyConv3d LazyConvTranspose1d "
        "LazyConvTranspose2d LazyConvTranspose3d LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d "
        "LazyLinear": "changes its class in its first call: call the module once",
        "RNNBase RNNCellBase": "the base class of the recurrent layers",
        "Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer": "made of "
        "attention, linear layers and norms, each of which is converted separately",
    },
    "keras.layers": {
        "InputLayer InputSpec Layer Wrapper": "does not compute anything",
        "StackedRNNCells": "the cells of a keras.layers.RNN, for which rules exist",
        "Masking": "torch has no layer that skips masked steps",
        "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper": "wraps a model of another framework",
        "Lambda": "contains code, which keras3conv never runs from a file; write a layer and register a rule for it",
        _NAMES_OF_AUGMENTATIONS: "augments images in training, and returns them unchanged in inference; `convert` "
        "leaves it out",
        "AutoContrast ContrastLimitedAdaptiveHistogramEqualization Equalization MaxNumBoundingBoxes Pipeline "
        "RandomCrop Solarization": "prepares images before training; it is part of the data pipeline, not of the model",
        "CenterCrop Resizing": "has no weights, and no torch module; `convert` writes it as operations",
        "CategoryEncoding Discretization HashedCrossing Hashing IntegerLookup StringLookup TextVectorization": "turns "
        "tables and text into numbers; it is part of the data pipeline, not of the model",
        "MelSpectrogram STFTSpectrogram": "turns sound into images, without weights; `convert` writes it as operations",
    },
}

UNSUPPORTED: Mapping[str, str] = {
    f"{namespace}.{name}": reason
    for namespace, entries in _REASONS.items()
    for names, reason in entries.items()
    for name in names.split()
}
"""The classes of `keras.layers` and `torch.nn` without a rule, by qualified name, each with the reason."""

_SPECTRAL = (
    "by the rule of the inner layer, with the normalized weight of inference on both sides. Torch's u and v are "
    "computed when the weight is written; Keras' vector_u, the start of its power iteration, keeps its value. "
    "`convert` keeps the tensor that torch trains, and divides it by the norm"
)
_COMPUTED = (
    "by the rule of the layer, with the computed weight; the parameters from which the weight is computed are lost. "
    "`convert` keeps the parameters, and computes the weight"
)

WITHOUT_RULE: Mapping[str, str] = {
    "torch.nn.utils.parametrizations.spectral_norm": _SPECTRAL,
    "torch.nn.utils.spectral_norm": _SPECTRAL,
    "keras.layers.SpectralNormalization": _SPECTRAL,
    "torch.nn.utils.parametrizations.weight_norm": _COMPUTED,
    "torch.nn.utils.weight_norm": _COMPUTED,
    "any convolution with a standardised kernel": _COMPUTED,
}
"""The classes that are supported by the rules of other classes, each with an explanation."""
