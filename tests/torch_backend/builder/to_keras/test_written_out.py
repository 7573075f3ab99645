"""A module that becomes several Keras layers is named in the notes of the report, and judged by the outputs."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import keras3conv as k3c
from keras3conv.report.report import Report
from tests.support.models import randomize

NO_CALL = (
    "one framework calls them as one layer, the other does not, so no call of theirs can be compared; a mistake in "
    "them makes the outputs differ"
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = parametrizations.weight_norm(nn.Linear(6, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dense(x)
        return self.head(self.attention(x, x, x, need_weights=False)[0])


def certificate(module: nn.Module) -> Report:
    report = k3c.convert(module, inputs=torch.randn(2, 5, 6)).report
    assert report is not None
    assert report.ok
    return report


def test_each_kind_of_module_is_named_with_the_reason_and_a_way_to_a_layer_of_its_own() -> None:
    report = certificate(randomize(Net()).eval())
    (computed,) = [note for note in report.notes if "remove_parametrizations" in note]
    assert computed.startswith("dense: no single Keras layer")
    assert any(note.startswith("attention: nn.MultiheadAttention is written out") for note in report.notes)
    assert report.section("activations").facts["judged by the outputs alone"] == f"dense, attention: {NO_CALL}"


def test_the_printed_call_makes_a_plain_layer() -> None:
    module = randomize(Net()).eval()
    (note,) = [note for note in certificate(module).notes if "remove_parametrizations" in note]
    eval(note[note.index("torch.nn.utils") :], {"torch": torch, "module": module})  # noqa: S307 - our own message
    assert not parametrize.is_parametrized(module.dense)
    report = certificate(module)
    assert not any("remove_parametrizations" in note for note in report.notes)
    assert report.section("activations").facts["judged by the outputs alone"] == f"attention: {NO_CALL}"


def test_a_model_of_plain_layers_has_no_such_note() -> None:
    report = certificate(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval())
    assert not any("written out" in note or "no single Keras layer" in note for note in report.notes)
    assert "judged by the outputs alone" not in report.section("activations").facts
