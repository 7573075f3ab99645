"""Define the adapter of a live torch module, with notes for reports on its mode."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from keras3conv import formats
from keras3conv.frameworks.own_classes import require_fields
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.frameworks.torch.derived import planned_in_parts
from keras3conv.frameworks.torch.modes import is_compiled
from keras3conv.frameworks.torch.module import run, training_modules
from keras3conv.frameworks.torch.state_dicts import notes_on_file, state_dict_of
from keras3conv.frameworks.torch.tensors import named_tensors
from keras3conv.frameworks.torch.view import stored_tensors, view
from keras3conv.frameworks.torch.writing import restored_on_failure, write
from keras3conv.model.views import ModelView, Side
from keras3conv.rules.registry import users_rules
from keras3conv.transforms import Array


@dataclass(frozen=True)
class TorchModule:
    """The adapter of a live torch module: the interface `frameworks.adapter.LiveModel` for torch."""

    source: nn.Module
    side: ClassVar[Side] = "torch"
    is_live: ClassVar[bool] = True

    def view(self, *, described: bool = True, planned: ModelView | None = None) -> ModelView:
        """Return the view of the module: its layers and tensors by name; with `described`, also configurations."""
        found = view(self.source, described=described, in_parts=planned_in_parts(self.source, planned))
        for rule in users_rules() if described else ():
            require_fields(rule, found)
        return found

    def run(self, inputs: object, *, watch: bool = True) -> Recording:
        """Run the module once and record its outputs and, with `watch`, the calls of its submodules."""
        return run(self.source, inputs, watch=watch)

    def write(
        self, values: Iterable[tuple[str, Array]], *, planned: ModelView | None = None, finite: set[str] | None = None
    ) -> None:
        """Write values into parameters and buffers; if one cannot be written, all keep their old values.

        Args:
            values: The path and the new value of each tensor.
            planned: The torch tensors in the plan; see `view`.
            finite: It is left empty: no value is looked at.
        """
        write(self.source, values, planned_in_parts(self.source, planned))

    def torch_tensors(self) -> dict[str, Any]:
        """Return the parameters and buffers of the module by path."""
        return dict(named_tensors(self.source))

    def restored_on_failure(self, paths: tuple[str, ...]) -> AbstractContextManager[None]:
        """Return a context manager that restores the values of some tensors if the `with` block raises."""
        return restored_on_failure(self.source, paths)

    def output(self, path: Path, *, max_shard_size: int | None = None) -> formats.Output:
        """Return the description of the files to which the weights will be saved; nothing is written yet.

        Args:
            path: The file to write; its suffix selects the format.
            max_shard_size: The largest size of a file in bytes; a larger model is divided among several files.
        """
        tensors, read = stored_tensors(self.source)
        return formats.Destination.of(path, tensors, read, max_shard_size=max_shard_size)

    def load_weights(self, path: Path, *, entry: str = "") -> None:
        """Load a state dict into the module; names, shapes and dtypes must be the same.

        A prefix that wrappers put before the names ("module.", "_orig_mod.", "model.") is ignored, and so are tensors
        without it, of a wrapper or a loss, if the others are all of the module; a note for a report lists them.

        Args:
            path: The file.
            entry: The name of the state dict, if the file holds several.

        Raises:
            InputError: The file is a Keras file.
            ModelError: The file does not contain exactly the state dict of the module.
        """
        write(self.source, state_dict_of(self.source, path, entry=entry))

    def build(self, arrays: Mapping[str, Array], keras_inputs: object) -> None:
        """Do nothing, because a torch module has its parameters before it is called."""

    def notes(self) -> tuple[str, ...]:
        """Return notes for a report: whether the module is in training mode, and whether it is compiled."""
        notes = []
        if training_modules(self.source):
            notes.append(
                "the torch module came in training mode, as a new module does: it was run in evaluation mode, as after "
                "module.eval(), and is in training mode again"
            )
        if is_compiled(self.source):
            notes.append("the torch module is compiled; it was run uncompiled")
        return (*notes, *self.origin_notes())

    def origin_notes(self) -> tuple[str, ...]:
        """Return notes for a report about the file that `load_weights` read: its tensors that the module lacks."""
        return notes_on_file(self.source)
