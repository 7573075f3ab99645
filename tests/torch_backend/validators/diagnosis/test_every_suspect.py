"""No suspect is there that has not been seen to be the cause: each is planted, under the words that name it."""

import ast
from pathlib import Path

import pytest

from keras3conv.validators.diagnosis.suspects import SUSPECTS

TESTS = sorted(Path(__file__).parent.glob("test_*.py"))

PLANTED = {
    "epsilon": "epsilon is 1e-06 in torch and 0.001 in Keras",
    "epsilon in own code": "epsilon is 1e-05 in torch and 0.001 in Keras",
    "statistics of the batch": "torch normalises by the statistics of the batch, as in training, Keras by the moving",
    "gamma and beta swapped": "gamma and beta are swapped",
    "mean and variance swapped": "the moving mean and the moving variance are swapped",
    "gamma or beta missing": "Keras has no gamma, torch has weight",
    "biased variance": "torch takes the unbiased std, divided by N - 1; Keras the biased one",
    "padding, stride or dilation": "stride is [1, 1] in torch and (2, 2) in Keras",
    "kernel flipped, transposed or in another order": "the groups of the kernel are in another order",
    "crop of a transposed convolution": "Keras crops 0 at the start of every axis of the transposed convolution",
    "another border": "torch pads the border with mode reflect, Keras with constant",
    "kernel transposed": "the kernel is transposed: torch has (out, in)",
    "rows of a kernel after a Flatten": "the kernel's rows are in another order",
    "bias lost": "Keras adds no bias, torch does",
    "row offset": "Keras looks 1 row further down in the table",
    "table left out": "Keras adds nothing of the table table",
    "frequencies of a rotation": "the frequencies of the rotation are of single precision in torch, and exact in Keras",
    "row of padding": "row 0 of the table is 0 in Keras, as that of padding",
    "rows in reverse": "the rows of the table stand in reverse in Keras",
    "gates in another order": "where they are Keras has those of z, r, n",
    "bias of a recurrent layer lost": "bias_ih got lost",
    "time backwards": "Keras runs through time backwards, and its outputs are turned back",
    "query, key and value swapped": "query and key are swapped",
    "mask inverted or left out": "the mask is inverted: True masks in torch, and does the opposite in Keras",
    "causal or not": "attention is not causal in torch, and is in Keras",
    "scale of the scores": "the scores are multiplied by 0.5 in torch and by 1 in Keras",
    "heads cut otherwise": "the heads are cut otherwise",
    "bias of attention lost": "Keras adds no bias to query, key and value, torch does",
    "border of a max pooling": "Keras pads with 0 before a max pooling",
    "border of an average pooling": "the border counts in torch's average pooling: True",
    "ceil mode": "ceil_mode is True in torch, and Keras' windows are those of False",
    "maximum for mean": "torch pools by the mean, Keras by the other",
    "resizing": "Keras with bilinear, align_corners=True",
    "order of what is flattened": "the same values in another order: torch flattens (c, h, w), Keras (h, w, c)",
    "another axis": "softmax is over axis 1 in torch, and over torch's axis 2 in Keras",
    "order of what is concatenated": "what is concatenated stands in another order in Keras",
    "number of groups": "the number of groups is 3 in torch and 2 in Keras",
    "weights of a recurrent layer": "the recurrent kernel is transposed, gate by gate",
    "cell state for hidden state": "torch goes on with the hidden state of an LSTM, Keras with the cell state",
    "end of a backward direction": "Keras takes the output of the backward direction at the last step",
    "activations of a recurrent layer": "torch has tanh for the state, Keras relu",
    "roles in written-out attention": "query and key are swapped",
    "mask of written-out attention": "Keras adds the mask as it is, 1 for what is attended to",
    "causal in Keras alone": "attention is causal in Keras, and not in torch",
    "padding that Keras leaves out": "Keras attends to nothing where the index is 0, as padding",
    "scale of written-out scores": "the scores are 1 / sqrt(width of a head) = 0.5 times as large",
    "base of a rotation": "the base of the rotation is 10000 in torch and 500000 in Keras",
    "no rotation, or the other way": "Keras rotates query and key the other way",
    "features that are rotated together": "torch rotates halves together, Keras neighbours",
    "order of the parts of a split": "the parts of a split are taken in another order in Keras: torch's 2, 3, 1",
    "packed head by head": "torch splits in 3 for all 2 heads at once, Keras head by head",
    "another place": "torch takes place 0 along axis 1 before pool, Keras the last",
    "scaling of the pixels": "Keras multiplies by 2 and adds -1 before",
    "an axis split in another order": "an axis is split in another order: torch has the parts (2, 4)",
    "axes merged in another order": "axes are merged in another order: torch merges (4, 4)",
    "heads cut and joined otherwise": "the heads are cut otherwise: torch has (heads, width) along the features",
    "shared heads in turn": "torch repeats every head in a row, Keras repeats all of them in",
    "a reshape for a transposition": "torch exchanges axes by transpose, from (3, 4, 7, 4) to",
    "a roll the other way": "torch rolls by (-2, -2), Keras by (2, 2)",
    "a gate or a scale": "torch multiplies by a tensor of (3, 6, 1, 1) before mix, Keras",
    "two layers in each other's place": "what gate and up return is used the other way round",
    "joined by another operation": "torch joins two tensors by mul before down, Keras by add",
    "left out in Keras": "torch calls roll before mix, Keras does not",
    "activation before an addition": "torch applies relu before last after an addition, Keras before it, to the first",
    "a factor in a branch": "Keras multiplies what branch computes by conv2d by 0.8",
    "a factor on a table": "Keras multiplies the rows of the table table by 2.82843 = sqrt(8)",
    "order of a pixel shuffle": "the channels of a pixel shuffle are in another order: torch has (c r r)",
    "arguments swapped": "the two arguments of sub are swapped",
    "mean for sum": "torch takes the mean over 1, Keras the sum",
    "a factor or a summand": "torch multiplies by 2.44949 before gru, Keras does not",
    "a factor that is measured": "Keras multiplies by 2.82843 = sqrt(8) before blocks_0_norm1",
    "tanh against erf GELU": "GELU is the erf one in torch and the tanh one in Keras",
    "negative slope": "negative_slope is 0.2 in torch and 0.3 in Keras",
    "alpha of an ELU": "alpha is 0.5 in torch and 1 in Keras",
    "activation missing in Keras": "Keras lacks an activation before conv1: leaky_relu",
    "another activation": "torch applies leaky_relu before block.conv1, Keras relu",
    "activation missing in torch": "torch lacks an activation at the end: softmax",
    "a shortcut": "torch adds two tensors before wide, Keras has only the first",
    "weights of another layer": "Keras has the weights of block.norm2 here",
}
"""What a test asserts of each suspect."""


def asserted() -> set[str]:
    """Every string in the tests of the diagnosis, this one left out."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in TESTS if path != Path(__file__)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_suspect_has_a_test_that_plants_it() -> None:
    assert set(PLANTED) == {suspect.name for suspect in SUSPECTS}


@pytest.mark.parametrize("words", PLANTED.values(), ids=PLANTED)
def test_the_words_that_name_a_suspect_are_asserted_somewhere(words: str) -> None:
    assert any(words in text or text.startswith(words) for text in asserted())
