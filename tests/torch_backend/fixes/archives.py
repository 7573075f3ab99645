"""Errors of archives, of files to replace and of outputs whose message prints a line to paste."""

import os
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save_file

import keras3conv as k3c
from tests.support.fixes import Scope, case
from tests.torch_backend.fixes.plans import NAMES, Net, network, pair


@case("keras3conv/api.py:_one_plan", "k3c.validate(module, model, alignment=plan, plan=plan)", edit=lambda line, _: (
    f"k3c.validate(module, model, {line})"
))  # fmt: skip
def two_names_of_one_plan(_: Path) -> Scope:
    return pair()


def scripted(folder: Path) -> Path:
    """A TorchScript archive of `Net`."""

    class Scripted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.b(torch.relu(self.a(x)))
            return made

    torch.jit.trace(Scripted(), torch.zeros(1, 3)).save(folder / "net.pt")
    return folder / "net.pt"


@case("keras3conv/formats/foreign.py:archive_message", "k3c.align(path, model)", then='k3c.align("weights.pt", model)')
def a_torchscript_archive(folder: Path) -> Scope:
    return NAMES | {"model": network(), "path": scripted(folder)}


@case(
    "keras3conv/formats/foreign.py:archive_message",
    "k3c.align(path, model)",
    then='k3c.align("weights.safetensors", model)',
)
def an_archive_of_numpy_arrays(folder: Path) -> Scope:
    np.savez(folder / "net.npz", **{name: tensor.numpy() for name, tensor in Net().state_dict().items()})
    (folder / "net.npz").rename(folder / "net.pt")
    return NAMES | {"model": network(), "path": folder / "net.pt", "safetensors": safetensors}


@case(
    "keras3conv/formats/torch/unnamed.py:refuse_unnamed", "k3c.align(path, model)", then='k3c.align("named.pt", model)'
)
def a_list_of_averaged_weights_without_names(folder: Path) -> Scope:
    module = Net()
    torch.save({"decay": 0.99, "shadow_params": [one.detach() for one in module.parameters()]}, folder / "ema.pt")
    return NAMES | {"model": network(), "path": folder / "ema.pt", "module": module, "torch": torch}


@case("keras3conv/workflows/convert.py:_to_keras", "k3c.convert(path)")
def a_torchscript_archive_to_convert(folder: Path) -> Scope:
    return NAMES | {"path": scripted(folder), "module": Net(), "example_input": torch.zeros(1, 3)}


@case(
    "keras3conv/frameworks/torch/saved_program.py:_check",
    "k3c.convert(path)",
    then='k3c.convert("net.pt2", inputs=args)',
)
def a_saved_program_of_an_old_torch(folder: Path) -> Scope:
    with zipfile.ZipFile(folder / "old.pt2", "w") as archive:
        archive.writestr("version", "1")
        archive.writestr("serialized_exported_program.json", "{}")
    return NAMES | {"path": folder / "old.pt2", "module": Net().eval(), "args": (torch.zeros(2, 3),)}


REPACK = f"""#!{sys.executable}
import sys
import h5py

assert sys.argv[1:5] == ["-f", "NONE", "-l", "CONTI"], sys.argv
with h5py.File(sys.argv[5]) as old, h5py.File(sys.argv[6], "w") as new:
    new.attrs.update(old.attrs)

    def repacked(name, item):
        if isinstance(item, h5py.Dataset):
            new.create_dataset(name, data=item[...])
        else:
            new.require_group(name)
        new[name].attrs.update(item.attrs)

    old.visititems(repacked)
"""
"""`h5repack` of the HDF5 tools, which may not be installed here; it takes the same arguments."""


@case(
    "keras3conv/formats/safe/hdf5_overwrite.py:_writable",
    "k3c.transfer(source, path, plan, overwrite=True)",
    then='k3c.transfer(source, "plain.weights.h5", plan, overwrite=True)',
    edit=lambda line, _: line.replace("plain.h5", "plain.weights.h5"),
)
def a_compressed_file_of_weights(folder: Path) -> Scope:
    names = pair()
    names["model"].save_weights(folder / "net.weights.h5")
    with h5py.File(folder / "net.weights.h5", "r+") as file:
        for name in _datasets(file):
            values = file[name][...]
            del file[name]
            file.create_dataset(name, data=values, chunks=values.shape, compression="gzip")
    program = folder / "bin" / "h5repack"
    program.parent.mkdir()
    program.write_text(REPACK)
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    patch = pytest.MonkeyPatch()
    patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    path = folder / "net.weights.h5"
    plan = k3c.align(names["module"], path)
    return names | {"path": path, "plan": plan, "undo": patch.undo}


def _datasets(file: Any) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


@case("keras3conv/workflows/transfer.py:_into_live", 'k3c.transfer(source, target, plan, ray="auto")')
def a_live_model_on_ray(_: Path) -> Scope:
    return pair()


@case(
    "keras3conv/workflows/transfer.py:_sharded",
    'k3c.transfer(path, "net.weights.h5", plan, out="new.weights.h5", ray="auto")',
    further="there is no Ray cluster",
)
def one_file_on_ray(folder: Path) -> Scope:
    import ray

    def init(**options: Any) -> None:
        raise ConnectionError("no cluster")

    names = pair()
    save_file(names["module"].state_dict(), folder / "net.safetensors")
    names["model"].save_weights(folder / "net.weights.h5")
    plan = k3c.align(folder / "net.safetensors", folder / "net.weights.h5")
    patch = pytest.MonkeyPatch()
    patch.setattr(ray, "init", init)
    return names | {"path": folder / "net.safetensors", "plan": plan, "undo": patch.undo}
