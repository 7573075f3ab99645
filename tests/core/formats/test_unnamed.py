"""A list of tensors without names in a checkpoint, as torch_ema saves it, is explained."""

from pathlib import Path

import pytest

from keras3conv.errors import FileError
from keras3conv.formats.torch.objects import OddTensor
from keras3conv.formats.torch.unnamed import UnnamedList, refuse_unnamed, unnamed_lists

TENSOR = object.__new__(OddTensor)
AVERAGED = {"decay": 0.99, "shadow_params": [TENSOR, TENSOR], "collected_params": None}


def test_lists_of_tensors_are_found_except_those_of_an_optimizer() -> None:
    content = {"model": {"a.weight": TENSOR}, "ema": AVERAGED, "optimizer": {"buffers": [TENSOR] * 3}, "sizes": [1, 2]}
    assert unnamed_lists(content) == [UnnamedList(("ema", "shadow_params"), 2)]


def test_a_dict_that_contains_itself_is_searched_once() -> None:
    content: dict[str, object] = {"shadow_params": [TENSOR, TENSOR]}
    content["again"] = content
    assert [one.name for one in unnamed_lists(content)] == ["shadow_params"]


@pytest.mark.parametrize("wanted", ["ema", "ema.shadow_params", "shadow_params"])
def test_a_list_that_is_asked_for_is_refused_with_the_code_that_names_its_tensors(wanted: str) -> None:
    with pytest.raises(FileError, match=r'list of 2 tensors without names(.|\n)*\["ema"\]\["shadow_params"\], strict'):
        refuse_unnamed({"model": {"a.weight": TENSOR}, "ema": AVERAGED}, wanted, str(Path("net.pt")))


def test_a_list_beside_the_wanted_state_dict_does_not_matter() -> None:
    content = {"model": {"a.weight": TENSOR}, "ema": AVERAGED}
    refuse_unnamed(content, "", "net.pt")
    refuse_unnamed(content, "model", "net.pt")
    refuse_unnamed({"other": AVERAGED}, "model", "net.pt")
