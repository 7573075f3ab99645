"""Reversible transforms of tuples of arrays: they turn the weights of torch layers into those of Keras layers.

A transform maps a tuple of arrays to a tuple of arrays, so one type covers one to one, one to three (a packed query,
key and value) and two to one (two biases of an LSTM). The tests check these laws for every transform of every rule:

- `f(f.inverse(y)) == y`, bit for bit, for every `y` that `f` can make;
- `f.inverse(f(x)) == x`, bit for bit, if `f.lossless`;
- `f.inverse.inverse == f`;
- `from_json(f.to_json()) == f`;
- `f.shapes(shapes)` are the shapes of `f(arrays)` for arrays of these shapes.

`ResizeGrid` alone interpolates, so the first law does not hold for it.

Results are views where numpy can return one, so data is copied only when it is written.
"""

from keras3conv.transforms.arithmetic import Copies, Equal, Shift, Spread, Sum
from keras3conv.transforms.axes import Axes
from keras3conv.transforms.base import Array, Arrays, Shape, Shapes, Transform, from_json
from keras3conv.transforms.blocks import Concat, Split, Stack, Take, Unstack
from keras3conv.transforms.combine import Beside, Chain, Each, Same
from keras3conv.transforms.complex_numbers import ComplexParts, FromComplexParts
from keras3conv.transforms.one_sided import Drop, Fill, Lead, Skip, Trail, Trim
from keras3conv.transforms.resize import ResizeGrid
from keras3conv.transforms.zeros import Blocks, Diagonal, Dilate, Thin

__all__ = [
    "Array",
    "Arrays",
    "Axes",
    "Beside",
    "Blocks",
    "Chain",
    "ComplexParts",
    "Concat",
    "Copies",
    "Diagonal",
    "Dilate",
    "Drop",
    "Each",
    "Equal",
    "Fill",
    "FromComplexParts",
    "Lead",
    "ResizeGrid",
    "Same",
    "Shape",
    "Shapes",
    "Shift",
    "Skip",
    "Split",
    "Spread",
    "Stack",
    "Sum",
    "Take",
    "Thin",
    "Trail",
    "Transform",
    "Trim",
    "Unstack",
    "from_json",
]


def __dir__() -> list[str]:
    return __all__
