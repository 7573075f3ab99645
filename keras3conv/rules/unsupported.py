"""The classes of `keras.layers` and `torch.nn` that no rule knows, each with the reason, or how they are supported.

They stand in the table of rules beside the supported ones, and a test walks both namespaces: a new version of a
framework shows what is missing.
"""

from collections.abc import Mapping

_REASONS: Mapping[str, Mapping[str, str]] = {
    "torch.nn": {
        "Container Module ModuleDict ModuleList ParameterDict ParameterList Sequential": "holds layers or parameters; "
        "they are converted one by one",
        "DataParallel": "wraps a module for several devices: convert the module inside",
        "AdaptiveLogSoftmaxWithLoss BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss "
        "GaussianNLLLoss HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss LinearCrossEntropyLoss MSELoss "
        "MarginRankingLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss NLLLoss2d "
        "PoissonNLLLoss SmoothL1Loss SoftMarginLoss TripletMarginLoss TripletMarginWithDistanceLoss": "a loss: it is "
        "no part of the model that is deployed",
        "CosineSimilarity PairwiseDistance": "a distance of two inputs, mostly of a loss",
        "CrossMapLRN2d LocalResponseNorm": "Keras has no local response normalisation",
        "Fold Unfold": "overlapping patches as columns; no Keras layer has them in this order",
        "FractionalMaxPool2d FractionalMaxPool3d": "pools random regions",
        "MaxUnpool1d MaxUnpool2d MaxUnpool3d": "needs the indices of a pooling, which Keras does not return",
        "LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d LazyConv1d LazyConv2d LazyConv3d LazyConvTranspose1d "
        "LazyConvTranspose2d LazyConvTranspose3d LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d "
        "LazyLinear": "becomes its own other class when it is first called: call the module once",
        "RNNBase RNNCellBase": "the base of the recurrent layers, never used itself",
        "Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer": "made of "
        "attention, linear layers and norms, which are converted one by one",
    },
    "keras.layers": {
        "InputLayer InputSpec Layer Wrapper": "no layer that computes",
        "StackedRNNCells": "the cells of an RNN, which has rules",
        "Masking": "torch has nothing that skips masked steps",
        "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper": "wraps a model of another framework",
        "Lambda": "code, which is never run from a file; write a layer and register a rule for it",
        "AugMix AutoContrast CenterCrop ContrastLimitedAdaptiveHistogramEqualization CutMix Equalization "
        "MaxNumBoundingBoxes MixUp Pipeline RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter "
        "RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur "
        "RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation "
        "RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom Resizing Solarization": "prepares "
        "images before training; it belongs to the data, not to the model",
        "CategoryEncoding Discretization HashedCrossing Hashing IntegerLookup StringLookup TextVectorization": "turns "
        "tables and text into numbers; it belongs to the data, not to the model",
        "MelSpectrogram STFTSpectrogram": "turns sound into images; it belongs to the data, not to the model",
    },
}

UNSUPPORTED: Mapping[str, str] = {
    f"{namespace}.{name}": reason
    for namespace, entries in _REASONS.items()
    for names, reason in entries.items()
    for name in names.split()
}
"""The qualified class names, each with the reason why there is no rule for it."""

_SPECTRAL = (
    "the rule of the layer inside; the weight is the one that is used at inference, on both sides. Torch's u and v are "
    "found anew when it is written; vector_u, where Keras' power iteration begins, keeps its value"
)
_COMPUTED = (
    "the rule of the layer; its weight is the one that is computed, and what it is computed of is a declared loss"
)

WITHOUT_RULE: Mapping[str, str] = {
    "torch.nn.utils.parametrizations.spectral_norm": _SPECTRAL,
    "torch.nn.utils.spectral_norm": _SPECTRAL,
    "keras.layers.SpectralNormalization": _SPECTRAL,
    "torch.nn.utils.parametrizations.weight_norm": _COMPUTED,
    "torch.nn.utils.weight_norm": _COMPUTED,
}
"""What is supported without a rule of its own, and how."""
