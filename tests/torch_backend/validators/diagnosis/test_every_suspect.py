"""For every suspect, a test of the diagnosis plants the mistake and asserts the cause."""

import ast
from functools import cache
from pathlib import Path

import pytest

from keras3conv.validators.diagnosis.suspects import SUSPECTS

TESTS = sorted(Path(__file__).parent.glob("test_*.py"))

PLANTED = {
    "epsilon": "epsilon is 1e-06 in torch and 0.001 in Keras",
    "a divisor in torch": "torch divides by a tensor of shape (2, 1) before head, Keras does not",
    "a shortcut from another place": "torch adds two tensors before head; the first of them is the",
    "function missing in torch": "Keras takes abs of the result of sub before out, torch does not",
    "epsilon in own code": "epsilon is 1e-05 in torch and 0.001 in Keras",
    "batch statistics": "torch normalises with batch statistics, as in training, Keras with moving",
    "gamma and beta swapped": "gamma and beta are swapped",
    "mean and variance swapped": "the moving mean and the moving variance are swapped",
    "gamma or beta missing": "Keras has no gamma, torch has weight",
    "biased variance": "torch takes the unbiased std, divided by N - 1; Keras the biased one",
    "padding, stride or dilation": "stride is [1, 1] in torch and (2, 2) in Keras",
    "kernel flipped, transposed or in another order": "the groups of the kernel are in another order",
    "crop of a transposed convolution": "Keras crops 0 at the start of every axis of the transposed convolution",
    "another padding mode": "torch pads the border with mode reflect, Keras with constant",
    "kernel transposed": "the kernel is transposed: torch has (out, in)",
    "kernel rows after a Flatten": "the kernel's rows are in another order",
    "bias missing": "Keras adds no bias, torch does",
    "shifted indices": "Keras' indices into the embedding table are 1 higher",
    "embedding table missing in Keras": "Keras does not add the embedding table table",
    "frequencies of a rotary embedding": "the frequencies of the rotary embedding are rounded to float32 in torch",
    "padding row": "row 0 of the embedding table is zero in Keras, as a padding row",
    "reversed rows": "the rows of the embedding table are reversed in Keras",
    "masked steps in a mean or a sum": "Keras leaves the steps that are masked as padding in pool out of the mean",
    "masked steps in a recurrent layer": "Keras skips the steps that are masked as padding in lstm, and repeats",
    "masked steps in attention": "attention in Keras ignores the steps that are masked as padding in",
    "gates in another order": "z, r, n in Keras",
    "bias of a recurrent layer missing": "bias_ih is missing: Keras has only torch's bias_hh",
    "reversed sequence": "Keras processes the sequence backwards, and returns the outputs in the original order",
    "masked steps in torch only": "torch masks steps by ne(x, 0) before head, Keras masks none",
    "query, key and value swapped": "query and key are swapped",
    "mask inverted or missing": "the mask is inverted: True means mask out in torch, and the opposite in Keras",
    "causal on one side only": "attention is not causal in torch, but is causal in Keras",
    "scale of the scores": "the scores are multiplied by 0.5 in torch and by 1 in Keras",
    "heads split in another order": "the heads are split in another order",
    "bias of attention missing": "Keras adds no bias to query, key and value, torch does",
    "padding of a max pooling": "Keras pads a max pooling with 0",
    "padding of an average pooling": "average pooling counts the padding in torch: True",
    "ceil mode": "ceil_mode is True in torch, Keras pools as with ceil_mode=False",
    "maximum instead of mean": "torch pools by the mean, Keras by the maximum",
    "resizing": "Keras with bilinear (align_corners=True)",
    "order of flattened axes": "the same values in another order: torch flattens (c, h, w), Keras (h, w, c)",
    "another axis": "softmax is over axis 1 in torch, and over torch's axis 2 in Keras",
    "order of concatenated tensors": "the tensors are concatenated in another order in Keras",
    "number of groups": "the number of groups is 3 in torch and 2 in Keras",
    "weights of a recurrent layer": "the recurrent kernel is transposed, gate by gate",
    "cell state instead of hidden state": "torch uses the hidden state of the LSTM, Keras the cell state",
    "output of a backward direction": "Keras takes the backward output at the last time step",
    "activations of a recurrent layer": "torch has tanh for the state, Keras relu",
    "query and key swapped in own code": "query and key are swapped",
    "mask in own code": "Keras adds the mask itself to the scores: 1 where it attends",
    "causal in Keras only": "attention is causal in Keras, but not in torch",
    "padding mask in Keras only": "Keras masks positions with index 0 as padding",
    "scale of scores in own code": "the scores are 1 / sqrt(width of a head) = 0.5 times as large",
    "base of a rotary embedding": "the base of the rotary embedding is 10000 in torch and 500000 in Keras",
    "rotary embedding missing or reversed": "Keras rotates query and key in the opposite direction",
    "feature pairs of a rotary embedding": "torch rotates pairs of halves, Keras pairs of neighbours",
    "order of the parts of a split": "the parts of a split are used in another order in Keras: torch's 2, 3, 1",
    "packed head by head": "torch splits all 2 heads into 3 at once, Keras splits head by head",
    "another position": "torch selects position 0 along axis 1 before pool, Keras the last",
    "pixel preprocessing": "Keras multiplies by 2 and adds -1 before",
    "an axis split in another order": "an axis is split in another order: torch has the parts (2, 4)",
    "axes merged in another order": "axes are merged in another order: torch merges (4, 4)",
    "heads split and merged in another order": "the heads are split in another order: torch has features as (heads",
    "shared heads tiled": "torch repeats each head in a row (repeat), Keras repeats all heads",
    "reshape instead of a permutation": "torch permutes axes with transpose, from (3, 4, 7, 4) to",
    "roll in the opposite direction": "torch rolls by (-2, -2), Keras by (2, 2)",
    "a gate or a layer scale": "torch multiplies by a tensor of shape (3, 6, 1, 1) before mix, Keras",
    "results of two layers swapped": "the results of gate and up are swapped",
    "combined by another operation": "torch combines two tensors by mul before down, Keras by add",
    "operation missing in Keras": "torch calls roll before mix, Keras does not",
    "activation before an addition": "torch applies relu before last after an addition, Keras before it, to the first",
    "a factor on a branch": "Keras multiplies the result of conv2d in branch by 0.8",
    "a factor on an embedding table": "Keras multiplies the embedding table table by 2.82843 = sqrt(8)",
    "order of a pixel shuffle": "the channels of a pixel shuffle are in another order: torch has (c r r)",
    "arguments swapped": "the two arguments of sub are swapped",
    "another reduction": "torch takes the mean over 1, Keras the sum",
    "a factor or summand in torch": "torch multiplies by 2.44949 before gru, Keras does not",
    "a factor in Keras": "Keras multiplies by 2.82843 = sqrt(8) before blocks_0_norm1",
    "tanh against erf GELU": "GELU is the erf variant in torch and the tanh variant in Keras",
    "negative slope": "negative_slope is 0.2 in torch and 0.3 in Keras",
    "alpha of an ELU": "alpha is 0.5 in torch and 1 in Keras",
    "activation missing in Keras": "Keras lacks an activation before conv1: leaky_relu",
    "another activation": "torch applies leaky_relu before block.conv1, Keras relu",
    "another function": "torch computes abs before out, Keras square",
    "activation missing in torch": "torch lacks an activation at the end: softmax",
    "a shortcut": "torch adds two tensors before wide, Keras has only the first",
    "weights of another layer": "Keras has the weights of block.norm2 here",
}
"""The start of the asserted cause, by suspect."""


@cache  # the files are parsed once for all suspects
def asserted() -> set[str]:
    """Return all string constants in the other tests of the diagnosis."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in TESTS if path != Path(__file__)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_suspect_has_an_asserted_cause() -> None:
    assert set(PLANTED) == {suspect.name for suspect in SUSPECTS}


@pytest.mark.parametrize("words", PLANTED.values(), ids=PLANTED)
def test_the_cause_of_every_suspect_is_asserted_in_a_test(words: str) -> None:
    assert any(words in text or text.startswith(words) for text in asserted())
