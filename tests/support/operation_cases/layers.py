"""Cases of the functional form of layers: convolutions, poolings, normalisations, attention."""

from typing import Any

from keras import ops

from tests.support.operations import IMAGE, SEQUENCE, VECTOR, VOLUME, Case, Given, case, named

_SAME: dict[str, Any] = {"padding": "same"}
_WINDOWS: tuple[dict[str, Any], ...] = ({}, _SAME, _SAME | {"strides": 2}, _SAME | {"dilation_rate": 2})
_POOLS: tuple[dict[str, Any], ...] = (
    {"pool_size": 2},
    {"pool_size": (2, 3), "strides": 1},
    {"pool_size": 3, "strides": 1, "padding": "same"},
)
_VARIANCE = Given(VECTOR, low=0.5)
_QUERY, _KEY, _FEW_HEADS, _WIDE = (5, 6, 4), (7, 6, 4), (7, 2, 4), (7, 6, 8)

CASES: dict[str, list[Case]] = {
    "conv": [
        *(
            case(lambda x, k, s=s: ops.conv(x, k[0], **s), IMAGE, (3, 2, 4, 6))
            for s in (*_WINDOWS, {"strides": (1, 2)})
        ),
        case(lambda x, k: ops.conv(x, k[0], padding="same"), SEQUENCE, (3, 4, 6)),
        case(lambda x, k: ops.conv(x, k[0], data_format="channels_first"), IMAGE, (3, 2, 6, 5)),
    ],
    "conv_transpose": [
        *(
            case(lambda x, k, s=s: ops.conv_transpose(x, k[0], **s), IMAGE, (3, 2, 6, 4), inside=True)
            for s in (
                {},
                {"strides": 2},
                {"strides": 2, "padding": "same"},
                {"strides": 3, "padding": "same", "output_padding": 1},
                {"dilation_rate": 2},
            )
        ),
        case(lambda x, k: ops.conv_transpose(x, k[0], strides=2, padding="same"), SEQUENCE, (3, 6, 4), inside=True),
        case(lambda x, k: ops.conv_transpose(x, k[0], data_format="channels_first"), IMAGE, (3, 2, 2, 6), inside=True),
    ],
    "depthwise_conv": [case(lambda x, k, s=s: ops.depthwise_conv(x, k[0], **s), IMAGE, (3, 3, 4, 2)) for s in _WINDOWS],
    "separable_conv": [
        case(lambda x, k, p, s=s: ops.separable_conv(x, k[0], p[0], **s), IMAGE, (3, 3, 4, 2), (1, 1, 8, 3))
        for s in _WINDOWS[:3]
    ],
    "max_pool": [
        *(case(named("max_pool", **s), IMAGE) for s in (*_POOLS, {"pool_size": 3, "strides": 2, "padding": "same"})),
        case(named("max_pool", pool_size=2), SEQUENCE),
        case(named("max_pool", pool_size=2), VOLUME),
    ],
    "average_pool": [case(named("average_pool", **s), IMAGE) for s in _POOLS],
    "adaptive_average_pool": [
        case(named("adaptive_average_pool", output_size=(2, 3), data_format="channels_first"), IMAGE)
    ],
    "adaptive_max_pool": [case(named("adaptive_max_pool", output_size=(2, 3), data_format="channels_first"), IMAGE)],
    "batch_normalization": [
        case(lambda x, m, v: ops.batch_normalization(x, m[0], v[0], -1), IMAGE, VECTOR, _VARIANCE),
        case(
            lambda x, m, v, s, o: ops.batch_normalization(x, m[0], v[0], 1, offset=o[0], scale=s[0], epsilon=0.1),
            (4, 6, 5),
            VECTOR,
            _VARIANCE,
            VECTOR,
            VECTOR,
        ),
    ],
    "layer_normalization": [
        case(named("layer_normalization"), IMAGE),
        case(lambda x, g, b: ops.layer_normalization(x, g[0], b[0], axis=-1, epsilon=0.1), IMAGE, VECTOR, VECTOR),
        case(named("layer_normalization", axis=[-2, -1]), IMAGE),
        case(lambda x, g: ops.layer_normalization(x, g[0]), SEQUENCE, VECTOR),
    ],
    "rms_normalization": [
        case(named("rms_normalization"), IMAGE),
        case(lambda x, g: ops.rms_normalization(x, g[0], epsilon=0.1), IMAGE, VECTOR),
    ],
    "dot_product_attention": [
        case(named("dot_product_attention"), _QUERY, _KEY, _KEY),
        case(named("dot_product_attention", scale=0.3), _QUERY, _FEW_HEADS, _FEW_HEADS),
        case(named("dot_product_attention", is_causal=True), _QUERY, _QUERY, _QUERY),
        case(named("dot_product_attention"), _QUERY, _KEY, _WIDE),
        case(
            lambda q, k, v, m: ops.dot_product_attention(q, k, v, mask=m), _QUERY, _KEY, _KEY, Given((1, 5, 7), "bool")
        ),
        case(lambda q, k, v, m: ops.dot_product_attention(q, k, v, mask=m > 5), _QUERY, _KEY, _KEY, (1, 5, 7)),
        case(lambda q, k, v, m: ops.dot_product_attention(q, k, v, bias=m), _QUERY, _KEY, _KEY, (6, 5, 7)),
    ],
}
