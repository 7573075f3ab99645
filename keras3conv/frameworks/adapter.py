"""Give the workflows one interface to both sides: a live model or a file, of PyTorch or of Keras.

A workflow resolves each argument once and then uses methods only. The adapters of live models are defined next to the
code that runs them, where the frameworks may be imported: `torch.module.TorchModule` and `keras.adapter.KerasModel`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Union

from keras3conv import formats
from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView, Reader, Side, TensorRef
from keras3conv.transforms import Array

Model = Any
"""A torch module, a Keras model, or the path of a file."""


class LiveModel(Protocol):
    """The interface of a live model, of either framework, that the workflows use."""

    side: ClassVar[Side]
    is_live: ClassVar[bool]

    @property
    def source(self) -> Any:
        """The live model itself, a torch module or a Keras model."""

    def view(self, *, described: bool = True, planned: ModelView | None = None) -> ModelView:
        """Return the view of the model: its layers and tensors by name, independent of the framework.

        Args:
            described: Whether to include the configurations of the layers, and layers without tensors. This is slower.
            planned: The torch tensors in a plan. A weight that torch computes (weight norm) is one tensor in the view;
                if the plan has the tensors that it is computed from, the view has these instead.
        """

    def run(self, inputs: object, *, watch: bool = True) -> Recording:
        """Run the model once and record its outputs and, with `watch`, its layer calls; the model does not change."""

    def write(
        self, values: Iterable[tuple[str, Array]], *, planned: ModelView | None = None, finite: set[str] | None = None
    ) -> None:
        """Write values into the tensors with these paths; after an exception all tensors have their old values.

        Args:
            values: The path and the new value of each tensor.
            planned: The torch tensors in the plan; see `view`.
            finite: A set; the path of each tensor without NaN and infinity is added to it, before the next tensor is
                taken.
        """

    def torch_tensors(self) -> dict[str, Any]:
        """Return the torch tensors of the model by path; raise `InputError` if its tensors are of another framework."""

    def restored_on_failure(self, paths: tuple[str, ...]) -> AbstractContextManager[None]:
        """Return a context manager that restores the values of some tensors if the `with` block raises."""

    def output(self, path: Path, *, max_shard_size: int | None = None) -> formats.Output:
        """Return the description of the files to which the model or its weights will be saved; nothing is written yet.

        Args:
            path: The file; its suffix selects the format.
            max_shard_size: The largest size of a file in bytes; a larger model is divided among several files.
        """

    def load_weights(self, path: Path, *, entry: str = "") -> None:
        """Load a file of weights of the same framework; its names and shapes must be exactly those of the model.

        Args:
            path: The file.
            entry: The name of the state dict in a torch checkpoint that holds several.
        """

    def build(self, arrays: Mapping[str, Array], keras_inputs: object) -> None:
        """Call the model if it was never called, so that Keras creates its variables.

        Args:
            arrays: The inputs of the torch side by name.
            keras_inputs: The inputs of the Keras model; None to derive them from `arrays`.
        """

    def notes(self) -> tuple[str, ...]:
        """Return notes for a report about the state of the model, for example that it is in training mode."""

    def origin_notes(self) -> tuple[str, ...]:
        """Return notes for a report about the file from which the model, or its weights, were read."""


@dataclass(frozen=True)
class TorchFile:
    """A file of torch weights; the file need not exist if it is the target of a transfer.

    Attributes:
        source: The path.
        entry: The name of the state dict to read, if the file holds several, such as "ema".
    """

    source: Path
    entry: str = ""
    side: ClassVar[Side] = "torch"
    is_live: ClassVar[bool] = False

    def view(self, *, described: bool = True, planned: ModelView | None = None) -> ModelView:
        """Return the view of the file, its tensors by name; raise `FileError` if that fails. `described` is unused."""
        return formats.read(self.source, entry=self.entry, planned=planned)

    def output(
        self, path: Path, tensors: Sequence[TensorRef], read: Reader, *, max_shard_size: int | None = None
    ) -> formats.Output:
        """Return the description of the files to which tensors will be written; nothing is written yet.

        Args:
            path: The file to write.
            tensors: The tensors, in the order of the model.
            read: A function that returns the values of the tensor with a path.
            max_shard_size: The largest size of a file in bytes; a larger model is divided among several files.
        """
        return formats.Destination.of(path, tensors, read, max_shard_size=max_shard_size)

    def origin_notes(self) -> tuple[str, ...]:
        """Return no notes, because the tensors are read directly from this file."""
        return ()

    def loaded(self) -> "TorchFile":
        """Return this adapter, because a file of torch weights has no architecture to load."""
        return self


@dataclass(frozen=True)
class KerasFile:
    """A Keras file of weights, with or without an architecture; it need not exist if it is the target of a transfer."""

    source: Path
    side: ClassVar[Side] = "keras"
    is_live: ClassVar[bool] = False

    def view(self, *, described: bool = True, planned: ModelView | None = None) -> ModelView:
        """Return the view of the file, with the configurations that it has; the arguments are ignored."""
        return formats.read(self.source)

    def output(
        self, path: Path, tensors: Sequence[TensorRef], read: Reader, *, max_shard_size: int | None = None
    ) -> formats.Output:
        """Return the description of the files to which tensors will be written; nothing is written yet.

        If this file exists, the new file is a copy of it with other weights.

        Args:
            path: The file to write.
            tensors: The tensors, in the order of the model.
            read: A function that returns the values of the tensor with a path.
            max_shard_size: The largest size of a file in bytes; a larger model is divided among several files.
        """
        template = self.source if os.path.lexists(self.source) else None
        return formats.Destination.of(path, tensors, read, template=template, max_shard_size=max_shard_size)

    def origin_notes(self) -> tuple[str, ...]:
        """Return no notes, because the tensors are read directly from this file."""
        return ()

    def loaded(self) -> "Adapter":
        """Return the adapter of a live model, loaded from the file, if the file has an architecture; else this adapter.

        Raises:
            ModelError: Keras 3 has no equivalent for parts of the model; the message lists all of them.
        """
        model, problems = self._of_keras_2()
        if problems:
            raise ModelError(lay_out(f"{self.source} cannot be read as a model of Keras 3", list(problems)))
        if model is not self:
            return model
        if not any(layer.config for layer in self.view().layers):
            return self
        from keras3conv.frameworks.keras.adapter import KerasModel
        from keras3conv.frameworks.keras.files import load, require_loadable

        require_loadable(self.view().layers, self.source)
        return KerasModel(load(self.source))

    def opened(self) -> tuple["Adapter", tuple[str, ...]]:
        """Return the adapter of a live model if Keras 2 saved the file, else this adapter; and notes for a report.

        Keras 3 interprets some arguments in such a file differently, so no workflow reads the file directly. This
        adapter is returned for any other file, and if Keras 3 has no equivalent for parts of the model: names and
        shapes are enough for a plan.
        """
        model, problems = self._of_keras_2()
        if problems:
            named = ", ".join(problem.keras for problem in problems)
            note = f"only the names and shapes in {self.source} are used, because Keras 3 cannot compute {named}"
            return self, (note,)
        return model, () if isinstance(model, KerasFile | TorchFile) else model.notes()

    def notes(self) -> tuple[str, ...]:
        """Return the version of Keras 2 that saved the file, as a note for a report; Keras is not imported."""
        from keras3conv.formats.keras2.file import saved_model

        saved = saved_model(self.source) if self._may_be_old() else None
        return (f"{self.source.name} was saved by Keras {saved.version}",) if saved and saved.version else ()

    def _may_be_old(self) -> bool:
        """Return whether Keras 2 may have saved a model in the file; False for an index of several weight files."""
        return os.path.lexists(self.source) and not self.source.name.lower().endswith((".weights.json", ".index"))

    def _of_keras_2(self) -> tuple["Adapter", tuple[Problem, ...]]:
        """Return the adapter to use for the file, and the problems that prevent loading it as a model.

        If Keras 2 saved the file and Keras 3 has an equivalent for all of it, the adapter is that of a live model.
        Otherwise this adapter is returned; the problems name the parts without an equivalent, if there are any.
        """
        from keras3conv.formats.keras2.file import saved_model

        saved = saved_model(self.source) if self._may_be_old() else None
        if saved is None:
            return self, ()
        from keras3conv.frameworks.keras.adapter import KerasModel
        from keras3conv.frameworks.keras.keras2.reading import problems_of, read_model

        problems = problems_of(saved)
        return (self, problems) if problems else (KerasModel(read_model(saved)), ())


ModelFile = TorchFile | KerasFile
Adapter = Union[LiveModel, ModelFile]  # noqa: UP007 - `|` does not accept the forward reference in `KerasFile`
