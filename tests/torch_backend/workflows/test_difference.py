"""A plan with a known output difference transfers no weights unless the difference is accepted."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.forced import is_forced
from keras3conv.errors import AlignmentError
from tests.support.models import randomize

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)


class Network(nn.Module):
    def __init__(self, after: Any) -> None:
        super().__init__()
        self.a, self.after = nn.Conv2d(3, 8, 3, padding=1), after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.after(self.a(x))
        return made


def network(after: Any) -> keras.Model:
    given = keras.Input((6, 6, 3))
    return keras.Model(given, after(keras.layers.Conv2D(8, 3, padding="same", name="a")(given)))


class Alike(nn.Module):
    """Two layers of equal shapes, whose weights could be exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.b(torch.relu(self.a(x))).flip(3)
        return made


def alike() -> keras.Model:
    given = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="a")(given)
    return keras.Model(given, keras.layers.Conv2D(3, 3, padding="same", name="b")(x))


def test_models_with_a_flipped_output_are_transferred_only_with_accept_difference() -> None:
    module, model = randomize(Alike()), alike()
    plan = k3c.align(module, model, inputs=IMAGES)
    assert "their outputs agree" not in " ".join(plan.notes)
    assert "they hold the same values in another order" in plan.notes[-1]
    before = keras.ops.convert_to_numpy(model.get_layer("a").kernel)
    restored = k3c.Alignment.from_json(plan.to_json())
    for known in (plan, restored):
        with pytest.raises(AlignmentError, match="accept_difference=True"):
            k3c.transfer(module, model, known)
    assert np.array_equal(keras.ops.convert_to_numpy(model.get_layer("a").kernel), before)
    report = k3c.transfer(module, model, plan, accept_difference=True)
    assert report.ok
    assert f"{plan.difference} (accepted)" in report.section("transfer").summary
    assert report.section("transfer").facts["accepted difference"] == f"the outputs were compared: {plan.difference}"
    assert not np.array_equal(keras.ops.convert_to_numpy(model.get_layer("a").kernel), before)


def test_weights_with_one_place_only_are_transferred_with_a_warning() -> None:
    module, model = randomize(Network(lambda x: x.flip(3))), network(lambda x: x)
    plan = k3c.align(module, model, inputs=IMAGES)
    with pytest.raises(AlignmentError, match="accept_difference=True"):
        plan.check()
    with pytest.warns(UserWarning, match=r"they hold the same values in another order(.|\n)*accept_difference=True"):
        report = k3c.transfer(module, model, plan)
    assert (report.ok, report.status) == (False, "unconfirmed")
    assert "the code of the models differs" in report.section("transfer").reason
    assert k3c.transfer(module, model, plan, accept_difference=True).ok


def test_an_accepted_difference_stays_known_until_the_pairs_change() -> None:
    module, model = randomize(Network(lambda x: x.flip(3))), network(lambda x: x)
    plan = k3c.align(module, model, inputs=IMAGES)
    assert f"! {plan.difference}\n" in str(plan)
    assert "no problems, but the outputs differ" in " ".join(str(plan).split())
    accepted = k3c.Alignment.from_json(plan.accepting_difference().to_json())
    assert (accepted.difference, accepted.accepted_difference) == ("", plan.difference)
    assert accepted.accepting_difference() == accepted
    assert "this was accepted" in " ".join(str(accepted).split())
    assert accepted.unpair("a").accepted_difference == accepted.pair("a", "a").accepted_difference == ""


def test_the_layers_that_differ_are_named_and_not_called_unconfirmed_by_any_run() -> None:
    module = randomize(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1)))
    model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(8, 3, 2, padding="same", name="a")])
    plan = k3c.align(module, model, inputs=IMAGES)
    report = k3c.transfer(module, model, plan, accept_difference=True)
    assert report.section("transfer").reason == "in the run of both models the outputs of 0 differed"
    assert "none, but the outputs of the two differ" in " ".join(str(plan).split())


def test_an_unconfirmed_pair_does_not_hide_the_warning() -> None:
    module = randomize(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1)))
    model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(8, 3, 2, padding="same", name="a")])
    plan = k3c.align(module, model, inputs=IMAGES)
    assert plan.unconfirmed
    with pytest.warns(UserWarning, match=r"their outputs differ by \S+ of the largest value, first at a"):
        report = k3c.transfer(module, model, plan)
    assert report.status == "unconfirmed"
    assert "the code of the models differs" in report.section("transfer").reason


@pytest.mark.parametrize(
    ("shapes", "forced"), [([(8, 6), (3, 8)], True), ([(8, 6), (8, 6)], False), ([(24, 8), (8, 8)], False)]
)
def test_equal_and_fused_layers_have_several_places_for_their_weights(
    shapes: list[tuple[int, int]], forced: bool
) -> None:
    module = nn.ModuleDict({f"l{place}": nn.Linear(size, rows) for place, (rows, size) in enumerate(shapes)})
    given = [keras.Input((size,)) for _, size in shapes]
    made = [keras.layers.Dense(rows, name=f"l{place}")(given[place]) for place, (rows, _) in enumerate(shapes)]
    model = keras.Model(given, made)
    assert is_forced(k3c.align(module, model, probe=False)) == forced


def test_pixel_shuffle_and_depth_to_space_differ() -> None:
    module, model = randomize(Network(nn.PixelShuffle(2))), network(lambda x: keras.ops.depth_to_space(x, 2))
    with pytest.raises(AlignmentError, match="their outputs differ by"):
        k3c.align(module, model, inputs=IMAGES).check()


def test_a_pooled_image_that_keeps_its_axes_is_compared_and_certified() -> None:
    module = randomize(Network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1))))
    pool, dense = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, name="f")
    model = network(lambda x: dense(pool(x)))
    plan = k3c.align(module, model, inputs=IMAGES).check()
    k3c.transfer(module, model, plan)
    k3c.validate(module, model, inputs=IMAGES, alignment=plan).raise_if_failed()


def test_validating_a_file_with_a_flatten_is_unconfirmed_without_a_run(tmp_path: Path) -> None:
    module = randomize(Network(nn.Sequential(nn.Flatten(), nn.Linear(288, 2))))
    flatten, dense = keras.layers.Flatten(), keras.layers.Dense(2, name="f")
    model = network(lambda x: dense(flatten(x)))
    torch.save(module.state_dict(), tmp_path / "net.pt")
    k3c.transfer(module, model, k3c.align(module, model, inputs=IMAGES).check())
    report = k3c.validate(tmp_path / "net.pt", model)
    assert (report.status, report.section("structure").problems) == ("unconfirmed", ())
