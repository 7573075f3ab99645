"""Run the demo on the terminal: the model, a common mistake, the conversion, its validation, the test accuracies."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import keras3conv as k3c
from keras3conv.demo.data import Digits, load
from keras3conv.errors import require

SHOWN = 64
"""The number of held-out images for the comparison of the models."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The trained Keras model, and the images of digits that it was not trained on."""

    model: Any
    held_out: Digits

    @property
    def images(self) -> NDArray[np.float32]:
        """The images with their channels first, as torch expects them."""
        return np.ascontiguousarray(np.moveaxis(self.held_out.images, -1, 1))


def tell(folder: Path) -> bool:
    """Run the demo and write its files.

    Args:
        folder: The folder for the files; files of an earlier run are replaced.

    Returns:
        True if all proofs passed, the predictions of both models are equal, and `validate` found the mistake.

    Raises:
        MissingExtra: torch, Keras or scikit-learn is not installed.
    """
    require("the demo", "torch", "keras", "sklearn")
    folder.mkdir(parents=True, exist_ok=True)
    trained = _train()
    found = _show_the_mistake(trained)
    module, proven = _convert(trained, folder)
    same = _compare_predictions(trained, module)
    _show_what_next(folder)
    return same and found and proven


def _train() -> Trained:
    import keras

    from keras3conv.demo import model

    _chapter(f"1. A model, trained in Keras {keras.__version__} on the {keras.backend.backend()} backend")
    training, held_out = load()
    resnet = model.seeded()
    model.train(resnet, training)
    layers = sum(bool(layer.weights) for layer in resnet.layers)
    _say(f"A ResNet with {layers} layers and {resnet.count_params():,} parameters,")
    _say(f"trained on {len(training.labels):,} images of handwritten digits; {len(held_out.labels)} are held out.")
    return Trained(model=resnet, held_out=held_out)


def _show_the_mistake(trained: Trained) -> bool:
    """Validate a torch model with wrong padding, and print the report; return True if it contains the fix."""
    from keras3conv.demo.twin import DigitsNet

    _chapter("2. A common mistake")
    _say('The same model is written in PyTorch by hand, with padding=1 for the padding="same" of Keras.')
    _say("All shapes fit, all weights load, and there is no warning. But validate reports:")
    naive = DigitsNet()
    k3c.transfer(trained.model, naive, k3c.align(naive, trained.model), accept_difference=True)
    certificate = k3c.validate(naive, trained.model, inputs=trained.images[:SHOWN])
    section = certificate.section("float64")
    if not section.problems:
        _say("Nothing: the mistake went unnoticed.")
        return False
    problem = section.problems[0]
    print(f"\n  {problem.where}\n      {problem.fact}")
    for fix in problem.fixes[:1]:
        print(f"  Fix:  {fix}")
    return bool(problem.fixes) and "nn.ZeroPad2d" in problem.fixes[0]


def _convert(trained: Trained, folder: Path) -> tuple[Any, bool]:
    """Convert the saved Keras model and save the result in a folder.

    Returns:
        The torch module, and whether all proofs passed.
    """
    _chapter("3. The same with one call")
    path = folder / "digits.keras"
    trained.model.save(path)
    _say(f'conversion = k3c.convert("{path}")\n')
    conversion = k3c.convert(path)
    print("    def forward" + conversion.source.rpartition("def forward")[2].rstrip())
    assert conversion.report is not None
    _chapter("4. The certificate")
    print(f"{conversion.report.title}\n")
    for section in conversion.report.sections:
        print(f"  {section.status:<7}  {section.name:<15} {section.outcome}")
    _chapter("5. The written files")
    for file in conversion.save(folder / "torch", overwrite=True):
        print(f"  {file.path}  {file.size:,} bytes\n      sha256 {file.sha256}")
    return conversion.model, conversion.report.ok


def _compare_predictions(trained: Trained, module: Any) -> bool:
    """Print the accuracy of the Keras model and of the torch module; return True if all predictions are equal."""
    import torch

    from keras3conv.demo import model
    from keras3conv.demo.twin import predict

    _chapter("6. The accuracy on the held-out digits")
    labels = trained.held_out.labels
    in_torch = predict(module, torch.from_numpy(trained.images)).numpy().argmax(-1)
    in_keras = model.predict(trained.model, trained.held_out.images).argmax(-1)
    for name, predictions in (("Keras", in_keras), ("PyTorch", in_torch)):
        right = int((predictions == labels).sum())
        print(f"  {name:<8} {right} of {len(labels)} right  ({right / len(labels):.1%})")
    same = bool((in_torch == in_keras).all())
    _say("All predictions are equal." if same else "Some predictions differ.")
    return same


def _show_what_next(folder: Path) -> None:
    page = (folder / "torch" / "report.html").resolve()
    _chapter("What next")
    _say(f"The proofs, layer by layer:  python -m webbrowser {page.as_uri()}")
    _say(f"The module as code:          {folder / 'torch' / 'model.py'}")
    _say("Your own model:              keras3conv convert model.keras -o folder/")


def _chapter(title: str) -> None:
    print(f"\n{title}\n{'-' * len(title)}")
    sys.stdout.flush()


def _say(sentence: str) -> None:
    print(sentence)
    sys.stdout.flush()
