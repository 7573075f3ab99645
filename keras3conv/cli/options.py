"""Define the arguments and options that several commands have, with their help."""

from pathlib import Path
from typing import Annotated

import typer

TorchSide = Annotated[str, typer.Argument(metavar="TORCH", help="A torch checkpoint, or the factory of a module.")]
KerasSide = Annotated[str, typer.Argument(metavar="KERAS", help="A Keras file, or the factory of a model.")]
TorchWeights = Annotated[Path | None, typer.Option(metavar="FILE", help="Weights to load into the torch module.")]
KerasWeights = Annotated[Path | None, typer.Option(metavar="FILE", help="Weights to load into the Keras model.")]
EntryName = Annotated[
    str, typer.Option("--entry", metavar="NAME", help="The state dict to read, if a torch checkpoint contains several.")
]
InputsFile = Annotated[
    Path | None, typer.Option(metavar="FILE.npz", help="The inputs of the torch module: an array, or named arrays.")
]
KerasInputsFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE.npz", help="The inputs of the Keras model: besides --inputs if they differ, or alone."),
]
OnnxInputsFile = Annotated[
    Path | None, typer.Option("--inputs", metavar="FILE.npz", help="The inputs of the first file, by name.")
]
HintList = Annotated[
    list[str] | None,
    typer.Option(
        "--hint", metavar="TORCH=KERAS", help="A pair of layers; ' + ' joins several, . is the model. May be repeated."
    ),
]
Probe = Annotated[
    bool,
    typer.Option("--probe/--no-probe", help="Run both models to pair their layers; without, only names and shapes."),
]
PlanOut = Annotated[Path | None, typer.Option("-o", "--out", metavar="PLAN.json", help="Save the plan to this file.")]
Shape = Annotated[
    str | None, typer.Option(metavar="1,3,224,224", help="Call a torch module with random numbers of this shape.")
]
DynamicAxes = Annotated[
    list[str] | None, typer.Option(metavar="x:2,3", help="Dynamic axes of an input of a torch module.")
]
FilesOut = Annotated[
    list[Path] | None, typer.Option("-o", "--out", metavar="FILE", help="A file to write; may be repeated.")
]
PlanFile = Annotated[Path | None, typer.Option(metavar="PLAN.json", help="The plan that `align -o` wrote.")]
Proofs = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Run only this proof (outputs, float64, ...); may be repeated.")
]
ToleranceText = Annotated[
    str | None,
    typer.Option(metavar="ABSOLUTE,RELATIVE", help="Allowed difference, instead of the measured rounding error."),
]
Training = Annotated[bool, typer.Option("--training", help="Also fail on differences that matter only in training.")]
LabelsFile = Annotated[
    Path | None, typer.Option(metavar="FILE.npy", help="The correct class of every sample of the inputs.")
]
ClassNamesFile = Annotated[
    Path | None, typer.Option(metavar="FILE.txt", help="The names of the classes, one per line.")
]
Backends = Annotated[
    str | None, typer.Option(metavar="all|NAME,...", help="Also run the saved model on these Keras backends.")
]
Onnx = Annotated[bool, typer.Option("--onnx", help="Also export both sides to ONNX, and compare in onnxruntime.")]
OnnxFolder = Annotated[
    Path | None, typer.Option("--onnx-dir", metavar="FOLDER", help="Implies --onnx: keep both ONNX files in FOLDER.")
]
ExpectedFile = Annotated[
    Path | None, typer.Option("--expected", metavar="FILE.npz", help="Expected outputs to compare both models with.")
]
Local = Annotated[
    bool, typer.Option("--local", help="Prove each pair of layers alone, for models that do not fit in memory.")
]
ReportFile = Annotated[
    list[Path] | None,
    typer.Option("--report", metavar="FILE", help="Save the report as .html, .md, .json or .txt; repeatable."),
]
ShardSize = Annotated[
    str | None, typer.Option(metavar="2GB", help="Divide the tensors among files of at most this size.")
]
RayAddress = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Write these files on a Ray cluster: its address, auto or local.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for another program.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", "--force", help="Replace files that exist.")]
