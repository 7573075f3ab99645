"""Define `Conversion`, the result of `convert`, and save it to a folder: all files or none."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.alignment.plan import Alignment
from keras3conv.builder.program.program import Program
from keras3conv.errors import InputError, message_of
from keras3conv.messages import count, with_article
from keras3conv.model.graph import Graph, refs
from keras3conv.model.views import Side
from keras3conv.report.report import Report
from keras3conv.report.values import GLYPHS
from keras3conv.transforms import Array
from keras3conv.writing.digests import ReadFile, WrittenFile, digest
from keras3conv.writing.outputs import replacing_folder, require_place_of_folder

FORMAT = 1
"""The version of the format of `metadata.json`."""

_FILES = frozenset(
    {"model.py", "metadata.json", "report.html", "report.json", "weights.safetensors", "model.keras"}
    | {"model.weights.h5", "constants.npz", "README.md", "__pycache__"}
)
"""The names of the files that the folder of a conversion may have: those of `save`, a model card, a cache of Python."""


def require_place(folder: Path, *, overwrite: bool) -> None:
    """Raise `FileError` if a conversion cannot be saved to a folder, before the conversion is made.

    Args:
        folder: The folder.
        overwrite: Whether the folder of an earlier conversion may be replaced.
    """
    require_place_of_folder(folder, overwrite=overwrite, replaced=_FILES)


@dataclass(frozen=True, kw_only=True, repr=False)
class Conversion:
    """The result of `convert`: a torch module made from a Keras model, or a Keras model made from a torch module.

    Attributes:
        model: The new model with its weights: a module in evaluation mode, an instance of the class `Model` in
            `source`, or the Keras model that `build_model` in `source` returns.
        source: The text of `model.py`.
        alignment: The plan: the pairs of torch tensors and Keras variables, with their transforms.
        report: The certificate (the report of the validation); None with `validate=False`.
        graph: The calls of layers and operations in the source model, as they were recorded.
        program: The program (the new model as a list of statements) from which `source` was written.
        inputs: The example inputs on which the new model was compared with the source model.
        sources: The files that the source model was made of; none for a live model.
        target: The framework of the new model.
        constants: The arrays of `constants.npz`, which `model.py` of a Keras model reads.
        transfer: The function that writes weights to the source model; `to_keras` calls it.
    """

    model: Any = field(repr=False)
    source: str = field(repr=False)
    alignment: Alignment = field(repr=False)
    report: Report | None = field(repr=False)
    graph: Graph = field(repr=False)
    program: Program = field(repr=False)
    inputs: tuple[Array, ...] = field(repr=False)
    sources: tuple[ReadFile, ...] = field(default=(), repr=False)
    target: Side = "torch"
    constants: Mapping[str, Array] = field(default_factory=dict, repr=False)
    transfer: Callable[..., Report] | None = field(default=None, repr=False, compare=False)

    @property
    def plan(self) -> Alignment:
        """The plan of the conversion, the same as `alignment`: `transfer` and `validate` call this argument `plan`."""
        return self.alignment

    def save(self, folder: str | PathLike[str], *, overwrite: bool = False) -> tuple[WrittenFile, ...]:
        """Write `model.py`, the weights, `metadata.json` and the report, as HTML and as JSON: all files or none.

        The weights of a torch module are `weights.safetensors`. Code that loads them needs only torch and safetensors:

            from model import Model
            from safetensors.torch import load_file

            model = Model()
            model.load_state_dict(load_file("weights.safetensors"))

        The weights of a Keras model are `model.weights.h5`. Beside this file are `model.keras`, which holds the
        architecture and the weights, and `constants.npz`, if `model.py` reads large constants. Code that loads the
        weights needs only Keras:

            from model import build_model

            model = build_model()
            model.load_weights("model.weights.h5")

        Args:
            folder: The folder; its parent must exist.
            overwrite: Whether to replace the folder of an earlier conversion. A folder with other files is refused.

        Returns:
            The written files, with their sizes and checksums.

        Raises:
            FileError: The folder exists, or cannot be written; an existing folder is unchanged.
        """
        path = Path(folder)
        with replacing_folder(path, overwrite=overwrite, replaced=_FILES) as inside:
            (inside / "model.py").write_text(self.source, encoding="utf-8")
            write_weights = _write_torch_weights if self.target == "torch" else _write_keras_weights
            write_weights(self, inside)
            if self.report is not None:
                written = (replace(digest(file), path=file.name) for file in sorted(inside.iterdir()))
                report = replace(self.report, files=tuple(written))
                report.save(inside / "report.html")
                report.save(inside / "report.json")
            digests = {file.name: digest(file).sha256 for file in sorted(inside.iterdir())}
            text = json.dumps(_metadata(self, digests), indent=2, ensure_ascii=False)
            (inside / "metadata.json").write_text(f"{text}\n", encoding="utf-8")
        return tuple(digest(file) for file in sorted(path.iterdir()))

    def to_keras(
        self,
        state_dict: Mapping[str, Any],
        target: Any,
        *,
        out: str | PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> Report:
        """Write weights that were trained in torch back into the Keras model from which the module was made.

            conversion.to_keras(module.state_dict(), "model.keras", out="trained.keras")

        Args:
            state_dict: The state dict of the trained module. `conversion.model` keeps its own weights.
            target: The Keras model, or the path of its file.
            out: The path of a file to write; by default the weights go into `target` itself.
            overwrite: Whether to replace an existing file.

        Returns:
            The report of the transfer.

        Raises:
            InputError: The conversion has made a Keras model, or the state dict does not fit the module.
            TransferError: The target is another model.
        """
        if self.target != "torch" or self.transfer is None:
            raise InputError(
                "to_keras is for a conversion from Keras to torch, but this one converted a torch module to Keras; "
                "its result is `conversion.model`"
            )
        module = deepcopy(self.model)
        try:
            module.load_state_dict(state_dict)
        except RuntimeError as error:
            raise InputError(
                f"the state dict does not fit the converted module: {' '.join(message_of(error).split())}"
            ) from None
        files = () if out is None else (Path(out),)
        return self.transfer(module, target, self.alignment, files, overwrite=overwrite)

    def __repr__(self) -> str:
        verdict = "not validated" if self.report is None else self.report.verdict.lower()
        framework = "a PyTorch module" if self.target == "torch" else "a Keras model"
        return (
            f"<Conversion of {self.program.name} to {framework}: {count(len(self.alignment.pairs), 'pair')}, {verdict}>"
        )

    def _repr_html_(self) -> str:
        """Return the verdict, the source code and the report of the validation as HTML, for notebooks."""
        from keras3conv.report import notebook

        name = f"{self.program.name}, as {with_article('PyTorch module' if self.target == 'torch' else 'Keras model')}"
        made = [notebook.title(name, None if self.report is None else self.report.status)]
        made.append(
            notebook.paragraph(
                f"{count(len(self.alignment.pairs), 'pair of layers', 'pairs of layers')}, "
                f"{self.source.count(chr(10)):,} lines"
            )
        )
        made.append(notebook.folded("model.py", notebook.code(self.source)))
        if self.report is None:
            made.append(notebook.paragraph("Not validated: convert(..., validate=False)"))
        else:
            rows = [(f"{GLYPHS[part.status]} {part.status}", part.name, part.outcome) for part in self.report.sections]
            made.append(notebook.table(("", "proof", "outcome"), rows))
            made.append(notebook.folded("Certificate", self.report._repr_html_()))
        return notebook.box(*made)


def _write_torch_weights(conversion: Conversion, folder: Path) -> None:
    from keras3conv import formats
    from keras3conv.frameworks.torch import module as torch_side

    view = torch_side.view(conversion.model)
    formats.write(folder / "weights.safetensors", tuple(view.tensors()), view.read)


def _write_keras_weights(conversion: Conversion, folder: Path) -> None:
    from keras3conv.frameworks.keras.files import save_to

    for name in ("model.keras", "model.weights.h5"):
        save_to(conversion.model, folder / name)
    if conversion.constants:
        np.savez(folder / "constants.npz", **conversion.constants)  # type: ignore[arg-type]


def _metadata(conversion: Conversion, digests: dict[str, str]) -> dict[str, Any]:
    from keras3conv.builder.program.variables import variable_names
    from keras3conv.builder.source.torch_source import described
    from keras3conv.report.report import current_environment

    program, names = conversion.program, variable_names(conversion.program)
    other = "keras" if conversion.target == "torch" else "torch"
    outputs = [program.values[ref.name] for ref in refs(program.outputs)]
    named = program.output_names if len(program.output_names) == len(outputs) else [""] * len(outputs)
    return {
        "format": FORMAT,
        "name": program.name,
        "inputs": [
            {"name": names.arguments[value.name], f"{other}_name": program.input_names.get(value.name, "")}
            | {"shape": described(value.target_shape), "dtype": value.dtype, f"{other}_axes": list(value.order)}
            for value in program.inputs
        ],
        "outputs": [
            {f"{other}_name": name, "shape": described(value.target_shape), "dtype": value.dtype}
            | {f"{other}_axes": list(order)}
            for name, value, order in zip(named, outputs, program.output_orders, strict=True)
        ],
        **_trainable(conversion),
        "certificate": conversion.report.status if conversion.report is not None else "not made",
        "sources": [file.to_json() for file in conversion.sources],
        "sha256": digests,
        "versions": current_environment(),
        "alignment": json.loads(conversion.alignment.to_json()),
    }


def _trainable(conversion: Conversion) -> dict[str, Any]:
    """Return two entries of `metadata.json`: "trainable_parameters" and "frozen".

    The first is the number of elements that an optimizer updates. The second lists the paths of the other parameters.

    Args:
        conversion: The conversion whose torch module or Keras model is described.
    """
    if conversion.target == "keras":
        model = conversion.model
        trained = sum(int(np.prod(one.shape)) for one in model.trainable_variables)
        return {"trainable_parameters": trained, "frozen": [one.path for one in model.non_trainable_variables]}
    parameters = dict(conversion.model.named_parameters())
    trained = sum(one.numel() for one in parameters.values() if one.requires_grad)
    frozen = [path for path, one in parameters.items() if not one.requires_grad]
    return {"trainable_parameters": trained, "frozen": frozen}
