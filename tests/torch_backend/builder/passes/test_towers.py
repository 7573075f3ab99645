"""A part of a model that is called several times with the same weights becomes a class with one instance."""

import re
from typing import Any

import keras
import pytest

import keras3conv as k3c
from keras3conv.builder.conversion import Conversion
from tests.torch_backend.builder.test_convert import randomised

layers = keras.layers


def proven(model: keras.Model, **options: Any) -> Conversion:
    conversion = k3c.convert(randomised(model), **options)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    return conversion


def image_tower(name: str | None = "tower") -> keras.Model:
    given = keras.Input((9, 8, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")(given)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.5, name="dropout")(x))
    return keras.Model(given, layers.Dense(5, name="dense")(x), name=name)


def siamese(tower: keras.Model, calls: int = 2) -> keras.Model:
    given = [keras.Input((9, 8, 3), name=f"image{place}") for place in range(calls)]
    joined = layers.Concatenate()([tower(one) for one in given])
    return keras.Model(given, layers.Dense(2, name="head")(joined), name="siamese")


@pytest.mark.parametrize("calls", [2, 3])
def test_a_model_with_several_calls_is_one_class_with_one_instance(calls: int) -> None:
    conversion = proven(siamese(image_tower(), calls))
    assert conversion.source.count("self.tower = Tower()") == 1
    assert conversion.source.count("self.tower(") == calls
    assert f"called {calls} times, with the same weights" in conversion.source
    assert [name for name, _ in conversion.model.named_children()] == ["tower", "head"]


def test_the_plan_has_the_paths_inside_the_tower() -> None:
    plan = k3c.convert(siamese(image_tower()), validate=False).alignment
    assert {pair.keras: pair.torch for pair in plan.pairs} == {
        "tower/conv": "tower.conv",
        "tower/norm": "tower.norm",
        "tower/dense": "tower.dense",
        "head": "head",
    }


def test_a_model_with_a_default_name_is_called_tower() -> None:
    assert "self.tower = Tower()" in proven(siamese(image_tower(None))).source


def test_a_layer_of_a_user_class_is_a_tower_with_its_name() -> None:
    class Encoder(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.first, self.second = layers.Dense(6, name="first"), layers.Dense(5, name="second")
            self.scale = self.add_weight(shape=(5,), name="scale")
            self.first.build(shape)
            self.second.build((None, 6))

        def call(self, x: Any) -> Any:
            return self.second(keras.ops.tanh(self.first(x))) * self.scale

    left, right, encoder = keras.Input((4,), name="left"), keras.Input((4,), name="right"), Encoder(name="text_encoder")
    conversion = proven(keras.Model([left, right], encoder(left) - encoder(right)))
    assert "self.text_encoder = TextEncoder()" in conversion.source
    assert conversion.source.count("self.scale = nn.Parameter(torch.zeros(5))") == 1


def test_a_tower_may_have_two_inputs_and_two_outputs() -> None:
    first, second = keras.Input((4,), name="first"), keras.Input((6,), name="second")
    x = layers.Add()([layers.Dense(5, name="a")(first), layers.Dense(5, activation="tanh", name="b")(second)])
    tower = keras.Model(
        [first, second], [layers.Dense(3, name="mean")(x), layers.Dense(3, name="scale")(x)], name="vae"
    )
    given = [keras.Input((size,), name=f"given{place}") for place, size in enumerate((4, 6, 4, 6))]
    one, two = tower(given[:2]), tower(given[2:])
    conversion = proven(keras.Model(given, {"mean": one[0] + two[0], "scale": one[1] * two[1]}))
    assert "-> tuple[torch.Tensor, torch.Tensor]:" in conversion.source
    assert "x, y = self.vae(given0, given1)" in conversion.source


def test_a_tower_is_one_class_even_if_one_call_has_an_unused_output() -> None:
    given = keras.Input((4,), name="given")
    x = layers.Dense(5, activation="tanh", name="body")(given)
    outputs = [layers.Dense(3, name="used")(x), layers.Dense(3, name="left_out")(x)]
    tower = keras.Model(given, outputs, name="tower")
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    one, two = tower(left), tower(right)
    conversion = proven(keras.Model([left, right], [one[0] + two[0], one[1]]))
    assert conversion.source.count("self.tower(") == 2


def test_a_tower_may_contain_a_tower() -> None:
    given = keras.Input((4,))
    word = keras.Sequential([layers.Dense(5, activation="tanh", name="up"), layers.Dense(4, name="down")], name="word")
    sentence = keras.Model(given, layers.Dense(3, name="out")(word(word(given)) + given), name="sentence")
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    conversion = proven(keras.Model([left, right], sentence(left) * sentence(right)))
    assert dict(conversion.model.named_modules()).keys() >= {"sentence.word.up", "sentence.word.down", "sentence.out"}
    assert conversion.source.index("class Word(") < conversion.source.index("class Sentence(")


@pytest.mark.slow
def test_blocks_in_a_tower_are_separate_classes() -> None:
    x = given = keras.Input((8, 8, 4))
    for place in range(4):
        y = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"block{place}_conv")(x)
        y = layers.BatchNormalization(name=f"block{place}_norm")(y)
        x = layers.Add(name=f"block{place}_add")([x, layers.Conv2D(4, 1, name=f"block{place}_out")(y)])
    tower = keras.Model(given, layers.GlobalMaxPooling2D()(x), name="tower")
    left, right = keras.Input((8, 8, 4), name="left"), keras.Input((8, 8, 4), name="right")
    conversion = proven(keras.Model([left, right], tower(left) - tower(right)))
    assert "tower.block3.conv" in dict(conversion.model.named_modules())


def test_an_encoder_that_larger_parts_share_is_called_in_each_of_them() -> None:
    encoder = keras.Sequential(
        [layers.Dense(5, activation="relu", name="up"), layers.Dense(4, name="down")], name="encoder"
    )
    x = given = keras.Input((4,))
    for place in range(3):
        x = layers.Dense(4, name=f"out{place}")(encoder(layers.Dense(4, name=f"in{place}")(x)))
    conversion = proven(keras.Model(given, x))
    assert conversion.source.count("self.encoder = Encoder()") == 1
    assert conversion.source.count("self.encoder(") == 3


def test_layers_that_are_called_again_together_are_a_tower() -> None:
    shared = [layers.Dense(6, activation="tanh"), layers.LayerNormalization(), layers.Dense(5, activation="relu")]
    given = [keras.Input((4,), name=name) for name in ("left", "right", "other")]
    outputs = [shared[2](shared[1](shared[0](one))) for one in given]
    conversion = proven(keras.Model(given, layers.Dense(2)(layers.Concatenate()(outputs))))
    assert conversion.source.count("self.tower = Tower()") == 1
    assert conversion.source.count("self.tower(") == 3


def test_a_layer_that_is_also_used_outside_of_the_tower_is_not_in_its_class() -> None:
    tower = image_tower()
    given = keras.Input((9, 8, 3))
    alone = layers.GlobalMaxPooling2D()(tower.get_layer("conv")(given))
    conversion = proven(keras.Model(given, layers.Concatenate()([tower(given), tower(given * 0.5), alone])))
    paths = {pair.keras.rpartition("/")[2]: pair.torch for pair in conversion.alignment.pairs}
    assert paths["dense"].startswith("tower.")
    assert len(re.findall(rf"self\.{paths['conv']}\(", conversion.source)) == 3


def test_a_tower_may_take_sequences_of_any_length() -> None:
    given = keras.Input((None, 4))
    x = layers.Conv1D(6, 3, padding="same", activation="relu", name="conv")(given)
    x = layers.Reshape((-1, 2, 3))(x)
    tower = keras.Model(given, keras.ops.sum(layers.Dense(3, name="dense")(x), axis=2), name="tower")
    left, right = keras.Input((None, 4), name="left"), keras.Input((None, 4), name="right")
    conversion = proven(keras.Model([left, right], tower(left) + tower(right)))
    assert conversion.source.count("self.tower(") == 2


def test_a_tower_may_take_images_of_several_sizes() -> None:
    given = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")(given)
    x = layers.Conv2D(5, 3, strides=2, padding="same", name="next")(x)
    tower = keras.Model(given, layers.GlobalAveragePooling2D()(x), name="tower")
    small, large = keras.Input((9, 8, 3), name="small"), keras.Input((16, 18, 3), name="large")
    conversion = proven(keras.Model([small, large], tower(small) - tower(large)))
    assert conversion.source.count("self.tower(") == 2


def test_a_layer_whose_padding_depends_on_the_input_is_right_for_each_call() -> None:
    conv = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")
    small, large = keras.Input((9, 8, 3), name="small"), keras.Input((16, 18, 3), name="large")
    pooled = [layers.GlobalMaxPooling2D()(conv(one)) for one in (small, large)]
    assert proven(keras.Model([small, large], layers.Add()(pooled))).source.count("pad_same(") == 3
