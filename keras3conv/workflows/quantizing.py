"""Transfer weights to a quantized Keras model: through a copy that is not quantized, and that Keras quantizes then."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keras3conv.alignment.adapted import has_lora, is_adapted
from keras3conv.alignment.plan import Alignment
from keras3conv.frameworks.adapter import Adapter, LiveModel
from keras3conv.model.views import ModelView
from keras3conv.transforms import Array
from keras3conv.workflows.align import align

if TYPE_CHECKING:
    from keras3conv.frameworks.keras.quantized import Unquantized


@dataclass(frozen=True)
class Copy:
    """A copy of a quantized Keras model in which no layer is quantized, and the plan for the copy.

    Attributes:
        models: The quantized model, and its copy without quantization.
        plan: The pairs of the torch side and the copy.
    """

    models: "Unquantized"
    plan: Alignment

    def quantized(self, values: Iterable[tuple[str, Array]]) -> Iterator[tuple[str, Array]]:
        """Write values into the copy, quantize it, and yield the path and the quantized value of each variable.

        Args:
            values: The path and the new value of each variable of the copy.
        """
        self.models.adapter.write(values)
        return self.models.values()


def unquantized(source: Adapter, target: LiveModel, view: ModelView, plan: Alignment) -> Copy | None:
    """Return a copy of a Keras model in which no layer is quantized, with a plan; None if the model is not quantized.

    `align` cannot pair quantized variables with torch tensors, so the copy is aligned with the torch side. Tensors that
    the given plan ignores are ignored in the new plan, too.

    Args:
        source: The torch side.
        target: The quantized Keras model.
        view: The layers and variables of the Keras model (its view).
        plan: The plan of the torch side and the quantized model.
    """
    adapted = [layer for layer in view.layers if is_adapted(layer)]
    if not adapted or any(map(has_lora, adapted)) or view.fingerprint != plan.keras.fingerprint:
        return None
    from keras3conv.frameworks.keras.quantized import Unquantized

    models = Unquantized.of(target.source)
    made = align(source.source, models.copy, inputs=None, keras_inputs=None, hints=None, probe=None, entry="")
    paths = {tensor.path for side in (made.torch, made.keras) for tensor in side.tensors()}
    ignored = tuple(entry for entry in plan.ignored if entry.path in paths and entry not in made.ignored)
    return Copy(models, replace(made, ignored=(*made.ignored, *ignored)))
