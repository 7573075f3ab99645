"""Mistakes in convolutions and poolings."""

from typing import Any

from tests.support.cause_lines import Case
from tests.torch_backend.fixes.causes.between_layers import PICTURE, between

MEAN = "x = self.b(x.mean((2, 3)))"
KERAS_MEAN = 'x = layers.Dense(3, name="b")(ops.mean(x, (1, 2)))'
HEAD = "b=nn.Linear(4, 3)"


def image(
    site: str, layer: str, keras_lines: str, torch_lines: str = "x = self.a(x)", extra: str = "", **options: Any
) -> Case:
    """Return a case with a layer of images before a mean."""
    return Case(
        site=site,
        parts=", ".join([*([f"a={layer}"] if layer else []), *([extra] if extra else []), HEAD]),
        torch=f"{torch_lines}\n{MEAN}",
        keras=f"{keras_lines}\n{KERAS_MEAN}",
        shape=options.pop("shape", PICTURE),
        **options,
    )


CONV = "nn.Conv2d(4, 4, 3, padding=1)"
KERAS_CONV = 'x = layers.Conv2D(4, 3, padding="same", name="a")(x)'

CONVOLUTIONS = [
    image(
        "convolution._other_geometry.fix",
        "nn.Conv2d(4, 4, 1<<>>)",
        'x = layers.Conv2D(4, 1, strides=2, name="a")(x)',
    ),
    image(
        "convolution._other_geometry.keras",
        "nn.Conv2d(4, 4, 1)",
        'x = layers.Conv2D(4, 1, strides=2<<>>, name="a")(x)',
    ),
    image(
        "convolution._other_geometry.fix",
        "nn.Conv2d(4, 4, 3<<>>)",
        'x = layers.Conv2D(4, 3, dilation_rate=2, name="a")(x)',
    ),
    image(
        "convolution._other_geometry.keras",
        "nn.Conv2d(4, 4, 3)",
        'x = layers.Conv2D(4, 3, dilation_rate=2<<>>, name="a")(x)',
    ),
    image(
        "convolution._other_geometry.fix",
        "nn.Conv2d(4, 4, 3, 2, padding=1<<2:>>)",
        'x = layers.Conv2D(4, 3, 2, padding="same", name="a")(x)',
        "<<pass>>\nx = self.a(x)",
    ),
    image(
        "convolution._other_geometry.keras",
        "nn.Conv2d(4, 4, 3, 2, padding=1)",
        '<<pass>>\nx = layers.Conv2D(4, 3, 2, padding="same", name="a"<<2:>>)(x)',
    ),
    image(
        "convolution._other_geometry.fix",
        "nn.Conv2d(4, 4, 3, padding=1<<>>)",
        'x = layers.Conv2D(4, 3, name="a")(x)',
    ),
    image(
        "convolution._other_geometry.keras",
        "nn.Conv2d(4, 4, 3, padding=1)",
        'x = layers.Conv2D(4, 3, name="a"<<>>)(x)',
    ),
    image(
        "convolution._other_geometry.keras",
        "nn.Conv2d(4, 4, 3, 2, padding=1)",
        'x = layers.ZeroPadding2D(padding=((0, 2), (1, 0))<<>>)(x)\nx = layers.Conv2D(4, 3, 2, name="a")(x)',
    ),
    image(
        "convolution._other_geometry.keras",
        "nn.Conv2d(4, 4, 3, 2)",
        'x = layers.ZeroPadding2D(padding=1<<>>)(x)\nx = layers.Conv2D(4, 3, 2, padding="same", name="a"<<2:>>)(x)',
    ),
    image(
        "convolution._other_geometry.fix",
        "nn.Conv2d(4, 4, 3, 2)",
        'x = layers.Conv2D(4, 3, 2, padding="same", name="a")(x)',
        "<<x = F.pad(x, (1, 1, 1, 1))>>\nx = self.a(x)",
    ),
    image(
        "convolution._other_geometry.fix",
        "nn.Conv2d(4, 4, 3, 2, padding=1<<2:>>)",
        'x = layers.Conv2D(4, 3, 2, padding="same", name="a")(x)',
        "<<x = F.pad(x, (0, 1, 0, 1))>>\nx = self.a(x)",
    ),
    image(
        "convolution._other_geometry.fix",
        "nn.Conv2d(4, 4, 3, 2)",
        'x = layers.Conv2D(4, 3, 2, padding="same", name="a")(x)',
        "x = self.border(x)\nx = self.a(x)",
        "border=<<nn.ZeroPad2d(1)>>",
    ),
    image(
        "convolution._other_geometry.fix",
        "nn.Conv2d(4, 4, 3, 2, groups=4, padding=1<<2:>>)",
        'x = layers.DepthwiseConv2D(3, 2, padding="same", name="a")(x)',
        "<<pass>>\nx = self.a(x)",
    ),
    image(
        "convolution._turned.fix",
        CONV,
        KERAS_CONV,
        tamper='kernel, bias = model.get_layer("a").get_weights()\n'
        'model.get_layer("a").set_weights([kernel[::-1, ::-1], bias])',
    ),
    image(
        "convolution._crop.fix",
        "nn.ConvTranspose2d(4, 4, 3, 2, padding=1, output_padding=1<<>>)",
        'x = layers.Conv2DTranspose(4, 3, 2, padding="same", name="a")(x)',
        "x = self.a(x)\n<<2:pass>>",
    ),
    image(
        "convolution._crop.keras",
        "nn.ConvTranspose2d(4, 4, 3, 2, padding=1, output_padding=1)",
        'x = layers.Conv2DTranspose(4, 3, 2, padding="same", name="a"<<>>)(x)\n<<2:pass>>',
    ),
    image(
        "convolution._crop.keras",
        "nn.ConvTranspose2d(4, 4, 4, 2, padding=1)",
        'x = layers.Conv2DTranspose(4, 4, 2, activation="relu", name="a"<<>>)(x)\n'
        "<<2:x = layers.Cropping2D(((0, 2), (0, 2)))(x)>>\n"
        'x = layers.Conv2D(4, 3, padding="same", name="c")(x)',
        "x = self.c(torch.relu(self.a(x)))",
        "c=nn.Conv2d(4, 4, 3, padding=1)",
    ),
    image(
        "convolution._border.fix",
        "nn.Conv2d(4, 4, 2)",
        'x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)\nx = layers.Conv2D(4, 2, name="a")(x)',
        "<<x = F.pad(x, (1, 0, 1, 0))>>\nx = self.a(x)",
    ),
    image(
        "convolution._border.keras",
        "nn.Conv2d(4, 4, 2)",
        '<<x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)>>\nx = layers.Conv2D(4, 2, name="a")(x)',
        "x = F.pad(x, (1, 0, 1, 0))\nx = self.a(x)",
    ),
    image(
        "convolution._border#2.fix",
        'nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"<<>>)',
        KERAS_CONV,
    ),
    image(
        "convolution._border#2.keras",
        'nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")',
        '<<x = layers.ZeroPadding2D(1)(x)>>\nx = layers.Conv2D(4, 3, name="a")(x)',
    ),
    image(
        "convolution._border#2.keras",
        'nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")',
        '<<pass>>\nx = layers.Conv2D(4, 3, padding="same", name="a"<<2:>>)(x)',
    ),
    image(
        "convolution._border#2.keras",
        "nn.Conv2d(4, 4, 3)",
        '<<pass>>\nx = layers.Conv2D(4, 3, padding="same", name="a"<<2:>>)(x)',
        'x = F.pad(x, (1, 1, 1, 1), mode="reflect")\nx = self.a(x)',
    ),
]


def pooled(site: str, pool: str, keras_lines: str, torch_lines: str = "x = self.pool(x)", **options: Any) -> Case:
    return between(
        site, torch_lines, keras_lines, f"pool={pool}" if pool else "", shape=options.pop("shape", PICTURE), **options
    )


def before_a_mean(site: str, pool: str, keras_lines: str, **options: Any) -> Case:
    """Return a case of a pooling that gives another size, before a mean."""
    return image(site, "", keras_lines, "x = self.pool(x)", extra=f"pool={pool}", **options)


POOLINGS = [
    pooled(
        "pooling._max_pooling_padding#2.fix",
        "nn.MaxPool2d(3, 1, padding=1<<2:>>)",
        "x = layers.MaxPooling2D(3, 1)(layers.ZeroPadding2D(1)(x))",
        "<<pass>>\nx = self.pool(x)",
    ),
    pooled(
        "pooling._max_pooling_padding#2.keras",
        "nn.MaxPool2d(3, 1, 1)",
        "<<x = layers.ZeroPadding2D(1)(x)>>\nx = layers.MaxPooling2D(3, 1)(x)",
    ),
    pooled(
        "pooling._max_pooling_padding.fix",
        "nn.MaxPool2d(3, 2, padding=1<<2:>>)",
        'x = layers.MaxPooling2D(3, 2, padding="same")(x)',
        "<<pass>>\nx = self.pool(x)",
    ),
    pooled(
        "pooling._max_pooling_padding.keras",
        "nn.MaxPool2d(3, 2, 1)",
        '<<pass>>\nx = layers.MaxPooling2D(3, 2, padding="same"<<2:>>)(x)',
    ),
    pooled(
        "pooling._average_pooling_padding.fix",
        "nn.AvgPool2d(3, 1, 1<<>>)",
        'x = layers.AveragePooling2D(3, 1, padding="same")(x)',
        shape=(4, 7, 7),
    ),
    pooled(
        "pooling._average_pooling_padding.keras",
        "nn.AvgPool2d(3, 1, 1)",
        '<<x = layers.AveragePooling2D(3, 1, padding="same")(x)>>',
        shape=(4, 7, 7),
    ),
    pooled(
        "pooling._average_pooling_padding.keras",
        "nn.AvgPool2d(3, 2, 1, count_include_pad=False)",
        "<<x = layers.AveragePooling2D(3, 2)(layers.ZeroPadding2D(((1, 0), (1, 0)))(x))>>",
    ),
    before_a_mean(
        "pooling._average_pooling_padding#2.fix",
        "nn.AvgPool2d(3, 2<<>>)",
        'x = layers.AveragePooling2D(3, 2, padding="same")(x)',
        shape=(4, 7, 7),
    ),
    before_a_mean(
        "pooling._average_pooling_padding#2.keras",
        "nn.AvgPool2d(3, 2)",
        '<<x = layers.AveragePooling2D(3, 2, padding="same")(x)>>',
        shape=(4, 7, 7),
    ),
    pooled(
        "pooling._average_pooling_padding#3.fix",
        "nn.AvgPool2d(3, 2, padding=1<<2:>>)",
        'x = layers.AveragePooling2D(3, 2, padding="same")(x)',
        "<<pass>>\nx = self.pool(x)",
    ),
    pooled(
        "pooling._average_pooling_padding#3.keras",
        "nn.AvgPool2d(3, 2, 1)",
        '<<x = layers.AveragePooling2D(3, 2, padding="same")(x)>>',
    ),
    before_a_mean(
        "pooling._ceil_mode.fix", "nn.MaxPool2d(3, 2, ceil_mode=True<<>>)", "x = layers.MaxPooling2D(3, 2)(x)"
    ),
    before_a_mean(
        "pooling._ceil_mode.keras",
        "nn.MaxPool2d(3, 2, ceil_mode=True)",
        "<<x = layers.MaxPooling2D(3, 2)(x)>>",
    ),
    pooled("pooling._other_kind.fix", "", "x = layers.MaxPooling2D(2)(x)", "x = <<F.avg_pool2d>>(x, 2)"),
    pooled(
        "pooling._other_kind.keras",
        "",
        "<<x = layers.MaxPooling2D(2)(x)>>",
        "x = F.avg_pool2d(x, 2)",
    ),
    before_a_mean(
        "pooling._other_kind.keras", "nn.AdaptiveAvgPool2d(1)", "<<x = layers.GlobalMaxPooling2D(keepdims=True)(x)>>"
    ),
    pooled(
        "pooling._resize.fix",
        "",
        'x = layers.UpSampling2D(2, interpolation="nearest")(x)',
        'x = <<F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)>>',
        dots="scale_factor=2",
    ),
    pooled(
        "pooling._resize.keras",
        "",
        '<<x = layers.UpSampling2D(2, interpolation="nearest")(x)>>',
        'x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)',
    ),
    between(
        "shape._pixel_shuffle.fix",
        "x = torch.cat([x, 2 * x], 1)\n<<pass>>\nx = F.pixel_shuffle(x, 2)\nx = torch.cat([x, x], 1)",
        "x = ops.depth_to_space(ops.concatenate([x, 2 * x], -1), 2)\nx = ops.concatenate([x, x], -1)",
        shape=PICTURE,
    ),
    between(
        "shape._pixel_shuffle.keras",
        "x = F.pixel_shuffle(torch.cat([x, 2 * x], 1), 2)\nx = torch.cat([x, x], 1)",
        "x = ops.concatenate([x, 2 * x], -1)\n<<pass>>\nx = ops.depth_to_space(x, 2)\nx = ops.concatenate([x, x], -1)",
        shape=PICTURE,
    ),
]

CASES = [*CONVOLUTIONS, *POOLINGS]
