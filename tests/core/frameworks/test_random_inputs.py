"""Generated and varied inputs: first and last table rows, padded steps, dynamic sizes, both signs."""

from dataclasses import replace

import numpy as np
import pytest

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.bounds import BoundsObserver
from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.frameworks.shared.inputs_masked import padded_at_the_start, wider_integers, with_masks, with_padding
from keras3conv.frameworks.shared.inputs_random import padded, random_mask
from keras3conv.frameworks.shared.inputs_varied import (
    are_long_images,
    both_signs,
    larger_sizes,
    smaller_sizes,
    with_more_samples,
)
from keras3conv.frameworks.sides import both_inputs
from keras3conv.model.views import InputSpec, LayerView, ModelView, TensorRef
from keras3conv.transforms import Array

TABLE = LayerView(path="table", tensors=(TensorRef(path="table/embeddings", role="embeddings", shape=(11, 4)),))
TORCH = ModelView(side="torch", name="torch", layers=())
TOKENS = ModelView(
    side="keras", name="keras", layers=(TABLE,), input_specs=(InputSpec(shape=(None, 9), dtype="int32"),)
)
PADDED = InputSpec(shape=(None, 9), dtype="int32", padding=0.0)
FREE = InputSpec(shape=(None, None, None, 3))
IMAGES = replace(TOKENS, layers=(), input_specs=(FREE,))


def test_tokens_reach_both_ends_of_the_table() -> None:
    tokens = both_inputs(TORCH, TOKENS, None, None).keras
    assert (tokens.min(), tokens.max(), tokens.shape) == (0, 10, (2, 9))


def test_masked_tokens_have_padding_of_several_lengths_and_one_sample_without() -> None:
    tokens = both_inputs(TORCH, replace(TOKENS, input_specs=(PADDED,), mask_values=(0.0,)), None, None).keras
    assert [int((row != 0).sum()) for row in tokens] == [9, 6, 3]
    assert tokens.max() == 10


def test_masked_features_are_padded_with_the_value_that_is_masked() -> None:
    features = padded(np.ones((3, 6, 2)), -1.0)
    assert [int((row == -1).all(-1).sum()) for row in features] == [0, 2, 4]
    assert padded(np.ones((3, 6, 2)), None).all()


def test_the_first_size_that_both_models_accept_is_used() -> None:
    made = both_inputs(TORCH, IMAGES, None, None, lambda inputs: inputs.keras.shape[1] >= 64)
    assert (made.keras.shape, made.torch[0].shape) == ((2, 64, 64, 3), (2, 3, 64, 64))
    with pytest.raises(InputError, match="the models accept none of 32, 64"):
        both_inputs(TORCH, IMAGES, None, None, lambda inputs: False)


def test_the_inputs_of_keras_alone_give_those_of_torch_in_the_layout_that_it_accepts() -> None:
    image, vector = np.ones((2, 8, 6, 3)), np.zeros((2, 5))
    specs = (replace(FREE, name="image", key="image"), InputSpec(shape=(None, 5), name="vector", key="vector"))
    keras = replace(IMAGES, input_specs=specs)
    given = {"vector": vector, "image": image}
    made = both_inputs(TORCH, keras, None, given, lambda inputs: True)
    assert [one.shape for one in made.torch] == [(2, 3, 8, 6), (2, 5)]
    assert {name: one.shape for name, one in made.keras.items()} == {"image": (2, 8, 6, 3), "vector": (2, 5)}
    last = both_inputs(TORCH, keras, None, given, lambda inputs: inputs.torch[0].shape[-1] == 3)
    assert [one.shape for one in last.torch] == [(2, 8, 6, 3), (2, 5)]
    with pytest.raises(InputError, match="no torch inputs that the models accept can be derived"):
        both_inputs(TORCH, keras, None, given, lambda inputs: False)
    with pytest.raises(InputError, match=r"keras_inputs has 1 array, but keras \(keras\) takes 2: image "):
        both_inputs(TORCH, keras, None, image, lambda inputs: True)


@pytest.mark.parametrize(
    ("size", "smaller"), [(9, (8, 7)), (127, (126, 125)), (224, (63, 62)), (225, (64, 63)), (512, (127, 126))]
)
def test_a_smaller_size_has_the_other_parity_and_is_half_of_a_long_one(size: int, smaller: tuple[int, int]) -> None:
    images = np.random.default_rng(0).normal(size=(1, size, size, 3))
    given = Inputs(torch=(np.moveaxis(images, -1, 1),), keras=images, note="")
    found = smaller_sizes(given, [FREE])
    assert found is not None
    assert found[0] == f"{smaller[0]}x{smaller[1]}"


def test_images_are_long_if_both_axes_are_dynamic_and_long() -> None:
    for shape, is_long in (((128, 130), True), ((127, 130), False)):
        images = np.zeros((1, *shape, 3))
        given = Inputs(torch=np.moveaxis(images, -1, 1), keras=images, note="")
        assert are_long_images(given, [FREE]) is is_long
        assert not are_long_images(given, [InputSpec(shape=(None, *shape, 3))])
        assert not are_long_images(given, [InputSpec(shape=(None, None, shape[1], 3))])


def test_other_sizes_resize_the_inputs_of_both_layouts_equally() -> None:
    images = np.random.default_rng(0).normal(size=(2, 8, 6, 3))
    given = Inputs(torch=(np.moveaxis(images, -1, 1),), keras=images, note="")
    for vary, expected in ((smaller_sizes, "7x4"), (larger_sizes, "40x38")):
        found = vary(given, [FREE])
        assert found is not None
        sizes, inputs = found
        assert sizes == expected
        assert np.array_equal(np.moveaxis(inputs.torch[0], 1, -1), inputs.keras)
        assert vary(given, [InputSpec(shape=(None, 8, 6, 3))]) is None


def inputs_of(array: Array) -> Inputs:
    return Inputs(torch=array, keras=array.copy(), note="")


def test_positive_inputs_get_both_signs() -> None:
    both = both_signs(inputs_of(np.arange(12, dtype="float32").reshape(2, 6)))
    assert both.keras.min() < 0 < both.keras.max()
    assert np.array_equal(both.torch, both.keras)


def test_small_inputs_are_repeated_at_several_strengths() -> None:
    many = with_more_samples(inputs_of(np.arange(12, dtype="float32").reshape(2, 6)), [InputSpec(shape=(None, 6))])
    assert many is not None
    assert many.keras.shape == (16, 6)
    assert len(np.unique(many.keras)) > 50
    assert with_more_samples(inputs_of(np.ones((2, 5000), "float32")), [InputSpec(shape=(None, 5000))]) is None


def test_several_inputs_are_padded_only_if_keras_masks_all_of_them() -> None:
    tokens = np.arange(1, 19).reshape(3, 6)
    both = Inputs(torch=(tokens, tokens), keras=[tokens, tokens], note="")
    masked, plain = InputSpec(shape=(None, 6), padding=0.0), InputSpec(shape=(None, 6))
    assert with_padding(inputs_of(tokens), [plain], (0.0,)) is not None
    assert with_padding(inputs_of(tokens), [plain], ()) is None
    assert with_padding(both, [masked, plain], (0.0,)) is None
    made = with_padding(both, [masked, masked], (0.0,))
    assert made is not None
    lengths = [(array != 0).sum(1).tolist() for array in made.keras]
    assert lengths == [[6, 4, 2], [2, 6, 4]]


def test_padding_at_the_start_is_that_at_the_end_turned_around() -> None:
    made = padded_at_the_start(inputs_of(np.array([[1, 2, 3], [4, 5, 0]])), (0.0,))
    assert made is not None
    assert made.keras.tolist() == [[3, 2, 1], [0, 5, 4]]
    assert padded_at_the_start(inputs_of(np.array([[1, 2, 3]])), (0.0,)) is None


def test_a_mask_hides_the_last_steps_and_never_a_whole_row() -> None:
    assert random_mask((3, 6)).sum(1).tolist() == [6, 4, 2]
    matrix = random_mask((3, 5, 5))
    assert matrix[0].all()
    assert matrix.any(-1).all()
    assert not matrix[1].all()


def test_an_input_of_ones_only_becomes_a_mask() -> None:
    made = with_masks(Inputs(torch=(np.ones((2, 6), "int64"),), keras=np.ones((2, 6), "int32"), note=""))
    assert made is not None
    assert made.keras.tolist() == made.torch[0].tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert with_masks(inputs_of(np.arange(6).reshape(1, 6))) is None
    assert with_masks(inputs_of(np.ones((1, 6), "float32"))) is None


def test_integers_are_tried_in_wider_ranges_up_to_the_end_of_their_dtype() -> None:
    ((*ranges,),) = map(list, wider_integers(inputs_of(np.array([[0, 1, 2, 3, 4, 5, 6, 7]], "int8")), [100]))
    assert [found.end for found in ranges] == [127, 99, 63, 15, 7]
    assert ranges[0].inputs.keras.max() == 127
    assert ranges[0].as_mask.keras.max() == 1
    assert ranges[0].negative is not None
    assert ranges[0].negative.keras.min() == -127
    assert not list(wider_integers(inputs_of(np.ones((1, 4), "float32"))))


def test_the_last_range_has_every_integer_and_one_twice_in_a_sample() -> None:
    words = np.array([[0, 1, 2, 9], [4, 5, 6, 7], [0, 1, 2, 9], [4, 5, 6, 7]])
    ((*ranges,),) = map(list, wider_integers(inputs_of(words)))
    made = ranges[-1].inputs.keras
    assert set(made.flat) == set(range(10))
    assert made[-1, 0] == made[-1, 1]
    ((*ranges,),) = map(list, wider_integers(inputs_of(words), is_masked=True))
    made, between = ranges[-1].inputs.keras, ranges[-1].between
    assert all((np.diff((row == 0).astype(int)) >= 0).all() for row in made)
    assert between is not None
    assert not all((np.diff((row == 0).astype(int)) >= 0).all() for row in between.keras)


def test_integers_cover_a_range_for_which_there_is_room_in_the_layouts_of_both_sides() -> None:
    image = np.zeros((1, 4, 4, 3), "uint8")
    given = Inputs(torch=np.zeros((1, 3, 4, 4), "uint8"), keras=image, note="")
    ((*ranges,),) = map(list, wider_integers(given))
    assert [found.end for found in ranges] == [255, 63, 15, 7, 3]
    assert len(np.unique(ranges[2].inputs.keras)) == 16
    assert np.array_equal(np.moveaxis(ranges[0].inputs.torch, 1, -1), ranges[0].inputs.keras)
    assert ranges[0].negative is None


def extremes(value: object) -> tuple[float, float] | None:
    return (float(value.min()), float(value.max())) if isinstance(value, np.ndarray) else None


def number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def test_bounds_are_found_for_every_spelling_of_a_clip() -> None:
    observer = BoundsObserver(extremes=extremes, number=number)
    values = np.array([-5.0, 5.0])
    observer.note("clamp", (values, -2.0), {"max": 7.0})
    observer.note("maximum", (0.0, values), {})
    observer.note("relu6", (values,), {})
    observer.note("hardtanh", (values,), {})
    observer.note("exp", (values,), {})
    observer.note("clamp", (values,), {"min": -1e9})
    assert [(bound.value, bound.is_passed) for bound in observer.bounds] == [
        *((-2.0, True), (7.0, False)),
        (0.0, True),
        *((0.0, True), (6.0, False)),
        *((-1.0, True), (1.0, True)),
    ]
    assert observer.bounds[1].missing_factor == pytest.approx(1.4)
