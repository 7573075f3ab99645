"""Define the model card of a converted model, in the form that model hubs expect: a YAML header, then Markdown."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keras3conv.report.cells import Cell
from keras3conv.report.digests import named_files
from keras3conv.report.text import ANSWER_COLUMNS, answer_rows
from keras3conv.report.values import Document, Table
from keras3conv.writing.digests import WrittenFile

_LOADING: Mapping[str, Sequence[str]] = {
    "model.py+safetensors": (
        "from model import Model",
        "from safetensors.torch import load_file",
        "",
        "model = Model().eval()",
        'model.load_state_dict(load_file("{file}"))',
    ),
    ".safetensors": ("from safetensors.torch import load_file", "", 'module.load_state_dict(load_file("{file}"))'),
    ".pt": ("import torch", "", 'module.load_state_dict(torch.load("{file}", weights_only=True))'),
    ".keras": ("import keras", "", 'model = keras.saving.load_model("{file}")'),
    ".h5": ('model.load_weights("{file}")',),
}
"""The example code that loads a weight file, by the suffix of the file."""

_TORCH_SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True, kw_only=True)
class Card:
    """The content of the model card of a converted model.

    Attributes:
        name: The name of the model.
        report: The certificate: the report of the conversion's validation.
        files: The files of weights.
        code: The files besides the weights that the example code on the card needs: code and constants.
        certificate: The file of the certificate, if it is beside the weights; else empty.
        sources: The files that the model was made of.
        licence: The licence of the weights, as the header names it ("apache-2.0"); empty if the author gives none.
        base_model: The model on the hub of which this is a conversion; empty if there is none.
        has_code: Whether `model.py` is beside the files.
        modules: The Python modules of the author that `model.py` imports, such as "mixer": code of custom layers.
        inputs: The inputs of the model, each as text: "x: float32 (batch, 3, 12)"; empty if they are unknown.
        outputs: The outputs of the model, as text; empty if they are unknown.
        verified: The argument with which `keras3conv verify` compares the files with the digests beside them: a file,
            or the folder. Empty if no digests are beside the files.
        converted: The sha256 of each file that one conversion wrote, the weights among them; empty if unknown.
    """

    name: str
    report: Document
    files: tuple[WrittenFile, ...]
    code: tuple[WrittenFile, ...] = ()
    certificate: tuple[WrittenFile, ...] = ()
    sources: tuple[WrittenFile, ...] = ()
    licence: str = ""
    base_model: str = ""
    has_code: bool = False
    modules: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    verified: str = ""
    converted: frozenset[str] = frozenset()
    tags: Sequence[str] = field(default=("keras3conv",))

    @property
    def read(self) -> tuple[WrittenFile, ...]:
        """The files that the certificate read, such as the code of a layer, without those that the card has anyway."""
        listed = {file.sha256 for file in (*self.files, *self.code, *self.sources)}
        return tuple({file.sha256: file for file in self.report.sources if file.sha256 not in listed}.values())

    @property
    def unnamed(self) -> tuple[WrittenFile, ...]:
        """The files of weights whose digest is not in the certificate; the certificate may be about other weights."""
        return tuple(file for file in self.files if not self._is_named(file) and file not in self.together)

    @property
    def together(self) -> tuple[WrittenFile, ...]:
        """The files of weights that the certificate does not name, but whose conversion also wrote one that it names.

        A conversion writes the same weights to all its files, such as `model.keras` and `model.weights.h5`.
        """
        written = [file for file in self.files if file.sha256 in self.converted]
        if not any(map(self._is_named, written)):
            return ()
        return tuple(file for file in written if not self._is_named(file))

    @property
    def unread(self) -> tuple[WrittenFile, ...]:
        """The files that the model was made of, such as a checkpoint, whose digest is not in the certificate.

        Only the author of the card says that the model was made of these files; no certificate confirms it.
        """
        return tuple(file for file in self.sources if not self._is_named(file))

    @property
    def renamed(self) -> tuple[tuple[WrittenFile, str], ...]:
        """The files that the model was made of whose name in the certificate differs (same sha256), with that name."""
        names = {sha256: name for name, sha256 in named_files(self.report)}
        return tuple(
            (file, names[file.sha256]) for file in self.sources if names.get(file.sha256, file.path) != file.path
        )

    def _is_named(self, file: WrittenFile) -> bool:
        return any(sha256 == file.sha256 for _, sha256 in named_files(self.report))

    @property
    def library(self) -> str:
        """The library that loads the first weight file, "pytorch" or "keras", for the YAML header of the card."""
        return "pytorch" if self.files and self.files[0].path.endswith(_TORCH_SUFFIXES) else "keras"

    @property
    def header(self) -> Mapping[str, str]:
        """The keys of the YAML header, each with its value as JSON, which is valid YAML."""
        values: dict[str, object] = {
            "license": self.licence,
            "library_name": self.library,
            "base_model": self.base_model,
            "tags": [*self.tags, self.library],
        }
        return {key: json.dumps(value) for key, value in values.items() if value}

    @property
    def loading(self) -> str:
        """The example code for the card, which loads the first of the converted weight files."""
        own = [
            f"import {name}  # the author's code of custom layers, which must be on the path" for name in self.modules
        ]
        return "\n".join([*own, self._loading_of_weights])

    @property
    def _loading_of_weights(self) -> str:
        path = self.files[0].path
        suffix = next((suffix for suffix in _LOADING if path.endswith(suffix)), "")
        if suffix == ".safetensors" and self.has_code:
            suffix = "model.py+safetensors"
        if suffix == ".keras" or not suffix:
            return "\n".join(_LOADING[".keras"]).format(file=path)
        lines = list(_LOADING[suffix])
        if suffix == ".h5" and self.has_code:
            lines = ["from model import build_model", "", "model = build_model()", *lines]
        return "\n".join(lines).format(file=path)

    @property
    def checking(self) -> str:
        """The commands for the card that compare the files with their digests, in a shell with the files."""
        digests = [f"{file.sha256}  {file.path}" for file in (*self.files, *self.code, *self.certificate)]
        verify = [f"keras3conv verify {shlex.quote(self.verified)}"] if self.verified else []
        return "\n".join(["sha256sum --check <<'END'", *digests, "END", *verify])

    @property
    def noise(self) -> Table | None:
        """The table of output differences and the noise floor (torch's own rounding); None if not measured."""
        tables = [table for section in self.report.sections if section.name == "outputs" for table in section.tables]
        return tables[0] if tables else None

    @property
    def accuracy(self) -> tuple[Table, ...]:
        """The tables of the accuracy on labelled data; empty if there were no labels."""
        return tuple(
            table for section in self.report.sections if section.name == "accuracy" for table in section.tables
        )

    @property
    def scored(self) -> str:
        """The name of the output whose values are the scores of the classes; empty if the certificate has none."""
        return next((section.facts.get("output", "") for section in self.report.sections if section.pictures), "")

    @property
    def answers(self) -> tuple[tuple[Cell, ...], ...]:
        """The classes with the best scores of both models for some samples, as rows of a table.

        A row has the caption of the sample, the rank, and class and score for torch and for Keras.
        """
        return tuple(row for section in self.report.sections for row in answer_rows(section))

    @property
    def answer_columns(self) -> tuple[str, ...]:
        """The names of the columns of `answers`."""
        return ANSWER_COLUMNS


def registry_line(file: WrittenFile) -> str:
    """Return the line that authors of model zoos keep in their tables: the name, the size and the digests of a file."""
    return f"{file.path}  {file.size}  {file.sha256}  {file.md5}"
