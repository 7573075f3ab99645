"""Errors of the files that a transfer writes, whose message prints a line to paste."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from keras3conv.frameworks.shared import backup
from tests.support.fixes import Scope, case
from tests.torch_backend.fixes.plans import pair


@case("keras3conv/formats/saving.py:Destination.of", "k3c.transfer(source, path, plan)")
def a_new_archive_without_a_model(folder: Path) -> Scope:
    return pair() | {"path": folder / "net.keras"}


@case("keras3conv/formats/keras/weights_h5.py:place_of", "k3c.transfer(source, path, plan)")
def a_new_file_for_tensors_without_places(folder: Path) -> Scope:
    names = pair()
    view = names["plan"].keras
    without = tuple(
        replace(layer, tensors=tuple(replace(tensor, location="") for tensor in layer.tensors)) for layer in view.layers
    )
    plan = replace(names["plan"], keras=replace(view, layers=without))
    return names | {"plan": plan, "path": folder / "net.weights.h5"}


@case("keras3conv/writing/outputs.py:_check_place", "k3c.transfer(source, target, plan, out=path)")
def a_file_that_exists(folder: Path) -> Scope:
    (folder / "net.keras").write_text("something")
    return pair() | {"path": folder / "net.keras"}


@case("keras3conv/writing/outputs.py:_mode_of", "k3c.transfer(source, target, plan, out=path)")
def a_file_that_is_a_link(folder: Path) -> Scope:
    (folder / "link.keras").symlink_to(folder / "net.keras")
    return pair() | {"path": folder / "link.keras"}


@case(
    "keras3conv/frameworks/shared/backup.py:Backup._write",
    "k3c.transfer(source, target, plan, out=path)",
    edit=lambda line, names: line.replace("/folder/with/room", str(names["path"].parent)),
)
def a_temporary_folder_without_room(folder: Path) -> Scope:
    patch = pytest.MonkeyPatch()
    patch.setattr(tempfile, "tempdir", str(folder / "missing"))
    patch.setattr(backup.Backup.__init__, "__defaults__", (0,))
    return pair() | {"path": folder / "net.keras", "undo": patch.undo}
