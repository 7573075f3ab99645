"""Run two models on smaller images, for the proofs that do not depend on the size of the images.

The models run at the given size with the weights of each proof. Further runs, at other magnitudes and for gradients,
exercise the same layers with other values. On images of a quarter of the size they take a sixteenth of the time. They
use these images only if both models then call the same layers in the same order, and the same functions, so that no
branch for large images is left out.
"""

from dataclasses import dataclass

from keras3conv.errors import ModelError, message_of
from keras3conv.frameworks.shared.inputs import first_samples
from keras3conv.frameworks.shared.inputs_varied import are_long_images, smaller_sizes
from keras3conv.validators.running.subject import Subject

SAMPLES = 2
"""Number of samples of a further run: a normalisation over the batch needs two."""


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """Two models with inputs of a smaller size.

    Attributes:
        sizes: The sizes in words, such as "63x62".
        subject: The models; None if they do not run.
        reason: Why they do not run.
        is_alike: Whether the models are image models that call the same layers and functions as at the given size.
    """

    sizes: str
    subject: Subject | None = None
    reason: str = ""
    is_alike: bool = False


def at_smaller_size(subject: Subject) -> Smaller | None:
    """Return the models with smaller inputs, on which both ran in float64; None if no size is dynamic."""
    return subject.once(_at_smaller_size)


def on_smaller_images(subject: Subject) -> tuple[Subject, str]:
    """Return the models with smaller images on which they call the same layers and functions, and the sizes in words.

    If there are none, return the subject itself and an empty text.
    """
    smaller = at_smaller_size(subject) if _has_long_images(subject) else None
    if smaller is None or smaller.subject is None or not smaller.is_alike:
        return subject, ""
    return smaller.subject, smaller.sizes


def _at_smaller_size(subject: Subject) -> Smaller | None:
    given, specs = subject.required_inputs, subject.outlines[1].input_specs
    resized = smaller_sizes(first_samples(given, specs, SAMPLES) or given, specs)
    if resized is None:
        return None
    sizes, inputs = resized
    varied = subject.varied(inputs)
    try:
        runs = varied.torch_probe, varied.keras_probe
    except ModelError as error:
        return Smaller(sizes=sizes, reason=" ".join(message_of(error).split()))
    is_alike = runs[0].repeats(subject.torch_probe) and runs[1].repeats(subject.keras_probe)
    return Smaller(sizes=sizes, subject=varied, is_alike=is_alike)


def _has_long_images(subject: Subject) -> bool:
    return are_long_images(subject.required_inputs, subject.outlines[1].input_specs)
