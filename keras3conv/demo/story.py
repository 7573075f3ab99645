"""The demo as a story on the terminal: the model, the mistake, the conversion, the certificate, the score."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import keras3conv as k3c
from keras3conv.demo.data import Digits, load
from keras3conv.errors import MissingExtra

SHOWN = 64
"""How many of the held-out images the models are compared on."""


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who appears: the trained Keras model, and the digits that were held out."""

    trained: Any
    held_out: Digits

    @property
    def images(self) -> NDArray[np.float32]:
        """The held-out images as torch has them: channels first."""
        return np.ascontiguousarray(np.moveaxis(self.held_out.images, -1, 1))


def tell(folder: Path) -> bool:
    """Tells the story, and writes its files.

    Args:
        folder: Where the files go; those of an earlier run are replaced.

    Returns:
        Whether everything was proven, the two scores are equal, and the mistake was found.

    Raises:
        MissingExtra: torch, Keras or scikit-learn is not installed.
    """
    _require()
    folder.mkdir(parents=True, exist_ok=True)
    cast = _train()
    found = _show_the_mistake(cast)
    module, proven = _convert(cast, folder)
    return _compare_scores(cast, module) and found and proven


def _require() -> None:
    from importlib.util import find_spec

    for package in ("torch", "keras"):
        if find_spec(package) is None:
            raise MissingExtra("the demo", package, package)


def _train() -> Cast:
    import keras

    from keras3conv.demo import model

    _chapter(f"1. A model, trained in Keras {keras.__version__} on the {keras.backend.backend()} backend")
    training, held_out = load()
    trained = model.seeded()
    model.train(trained, training)
    layers = sum(bool(layer.weights) for layer in trained.layers)
    _say(f"A ResNet with {layers} layers and {trained.count_params():,} numbers,")
    _say(f"trained on {len(training.labels):,} images of handwritten digits; {len(held_out.labels)} are held out.")
    return Cast(trained=trained, held_out=held_out)


def _show_the_mistake(cast: Cast) -> bool:
    """Whether the naive twin is caught, and the line to paste is given."""
    from keras3conv.demo.twin import DigitsNet

    _chapter("2. The mistake that everybody makes")
    _say('A PyTorch twin is written by hand. Keras says padding="same", so it says padding=1.')
    _say("All shapes fit, all weights load, nothing warns. What does validate say?")
    naive = DigitsNet(naive=True)
    k3c.transfer(cast.trained, naive, k3c.align(naive, cast.trained))
    certificate = k3c.validate(naive, cast.trained, inputs=cast.images[:SHOWN])
    failed = [section for section in certificate.with_status("failed") if section.name == "float64"]
    problem = next((entry for section in failed for entry in section.problems), None)
    if problem is None:
        _say("It says nothing: the mistake went unnoticed.")
        return False
    print(f"\n  {problem.where}\n      {problem.fact}")
    for fix in problem.fixes[:1]:
        print(f"  Fix:  {fix}")
    return bool(problem.fixes) and "F.pad" in problem.fixes[0]


def _convert(cast: Cast, folder: Path) -> tuple[Any, bool]:
    """The twin with the weights of the Keras model, and whether it is proven to be the same model."""
    from keras3conv.demo.twin import DigitsNet

    _chapter("3. With that line pasted: align, transfer, validate")
    module = DigitsNet()
    plan = k3c.align(module, cast.trained)
    weights, page = folder / "digits.safetensors", folder / "certificate.html"
    moved = k3c.transfer(cast.trained, module, plan, out=weights, overwrite=True)
    print(plan)
    certificate = k3c.validate(module, cast.trained, inputs=cast.images[:SHOWN], alignment=plan)
    _chapter("4. The certificate")
    print(f"{certificate.title}\n")
    for section in certificate.sections:
        print(f"  {section.status:<7}  {section.name:<15} {section.outcome}")
    _chapter("5. What was written")
    for file in (*moved.files, certificate.save(page)):
        print(f"  {file.path}  {file.size:,} bytes\n      sha256 {file.sha256}")
    return module, certificate.ok


def _compare_scores(cast: Cast, module: Any) -> bool:
    """Whether both models read the same digits."""
    import torch

    from keras3conv.demo import model
    from keras3conv.demo.twin import predict

    _chapter("6. The score on the digits that neither has seen")
    labels = cast.held_out.labels
    ours = predict(module, torch.from_numpy(cast.images)).numpy().argmax(-1)
    theirs = model.predict(cast.trained, cast.held_out.images).argmax(-1)
    for name, read in (("Keras", theirs), ("PyTorch", ours)):
        right = int((read == labels).sum())
        print(f"  {name:<8} {right} of {len(labels)} right  ({right / len(labels):.1%})")
    same = bool((ours == theirs).all())
    _say("Every digit is read alike." if same else "The two models do not read alike.")
    return same


def _chapter(title: str) -> None:
    print(f"\n{title}\n{'-' * len(title)}")
    sys.stdout.flush()


def _say(sentence: str) -> None:
    print(sentence)
    sys.stdout.flush()
