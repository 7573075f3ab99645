"""A transfer checks every value against the target before anything is written."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from keras3conv.alignment.staging import Staging, stage
from keras3conv.errors import TransferError
from keras3conv.model.views import ModelView
from keras3conv.planner.plan import plan
from keras3conv.transforms import Array
from tests.core.planner.test_plan import dense, keras_model, linear, torch_model


def reading(view: ModelView, change: Callable[[Array], Array]) -> ModelView:
    """Return a view whose values have the declared shapes, changed as a file that was replaced since may be."""
    shapes = {tensor.path: tensor.shape for tensor in view.tensors()}
    return replace(view, reader=lambda path: change(np.ones(shapes[path], np.float32)))


def staged(change: Callable[[Array], Array], *, to_keras: bool) -> Staging:
    torch, keras = torch_model(linear("fc", 3, 4, 0)), keras_model(dense("fc", 3, 4, 0))
    source, target = (torch, keras) if to_keras else (keras, torch)
    return stage(plan(torch, keras).check(), reading(source, change), target)


@pytest.mark.parametrize("to_keras", [True, False])
def test_values_of_another_shape_than_the_source_declares_are_refused(to_keras: bool) -> None:
    changed = staged(lambda array: np.concatenate([array, array]), to_keras=to_keras)
    target = "fc/kernel has shape (3, 4)" if to_keras else "fc.weight has shape (4, 3)"
    for read in (changed.require_values, lambda: list(changed.values())):
        with pytest.raises(TransferError, match="nothing was transferred") as caught:
            read()
        assert "becomes an array of shape" in str(caught.value)
        assert target in str(caught.value)


@pytest.mark.parametrize("change", [lambda array: array[:1], np.transpose, np.ravel], ids=["row", "axes", "flat"])
def test_a_shape_that_numpy_would_broadcast_or_that_has_as_many_values_is_refused(
    change: Callable[[Array], Array],
) -> None:
    with pytest.raises(TransferError, match=r"nothing was transferred"):
        staged(change, to_keras=True).require_values()


@pytest.mark.parametrize("to_keras", [True, False])
def test_values_of_the_declared_shape_are_staged(to_keras: bool) -> None:
    values = dict(staged(lambda array: array, to_keras=to_keras).values())
    assert [value.shape for value in values.values()] == [(3, 4) if to_keras else (4, 3), (4,)]
