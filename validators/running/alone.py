"""Build the two layers of a pair alone, as two small models with the same inputs, so that any proof can run on them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.alignment.binding import RULE
from keras3conv.alignment.pair import Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import RAISED_BY_MODELS, FileError, ModelError, RuleError, TransformError, message_of
from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.frameworks.shared.layout import like_torch, output_of
from keras3conv.messages import count
from keras3conv.model.views import LayerView, ModelView
from keras3conv.rules.applying import torch_config
from keras3conv.rules.library import find
from keras3conv.rules.rule import Config, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Array, Arrays
from keras3conv.validators.running.options import Options
from keras3conv.validators.running.subject import Subject

BATCH, SIZE = 3, 32
"""The sizes of the batch axis and of other dynamic axes in the small models; most layers have smaller windows."""

_SEED = 20240229

Shape = tuple[int | None, ...]


class NotAlone(Exception):
    """A layer pair cannot run without the rest of the models; the message is the reason."""


def alone(subject: Subject, pair: Pair) -> Subject:
    """Return a `Subject` with only the two layers of one pair, with their weights from the models or files.

    The layers keep their paths. The torch layer is a copy, the Keras layer is made from its configuration, without an
    activation that is a separate layer in torch.

    Raises:
        NotAlone: The layers cannot run without the rest of the models.
    """
    _refuse_dependent(subject, pair)
    torch, keras, inputs = _models(subject, pair)
    views = _views(torch, keras)
    return Subject(
        plan=replace(subject.plan, pairs=(pair,), ignored=(), torch=views[0].outline(), keras=views[1].outline()),
        outlines=views,
        views=lambda: views,
        torch=torch,
        keras=keras,
        inputs=inputs,
        options=Options(tolerance=subject.options.tolerance, training=subject.options.training),
    )


def has_activation(subject: Subject, pair: Pair) -> bool:
    """Return whether the Keras layer has an activation that is a separate layer in torch; `alone` removes it."""
    from keras3conv.frameworks.keras import alone as keras_alone

    layers = keras_alone.layers_by_path(subject.keras)
    return any(keras_alone.ends_with_activation(layers[path]) for path in pair.keras_layers)


def _refuse_dependent(subject: Subject, pair: Pair) -> None:
    """Raise `NotAlone` if the results of the two layers depend on the rest of the models."""
    if pair.torch not in subject.torch_layers and len(pair.torch_layers) == 1:
        raise NotAlone("the layer is a single tensor that its parent layer uses")
    if pair.rule == RULE:
        raise NotAlone("the tensors of the layer were paired without a rule for its class")
    if between := find(pair.rule).between:
        raise NotAlone(f"the pair has several layers, and the code between them is in no layer: {between}")
    if not all((*pair.torch_layers, *pair.keras_layers)):
        raise NotAlone("the model consists of this layer only")
    shapes = {tensor.path: tensor.shape for tensor in subject.torch_view.tensors()}
    if any(_moves_rows(mapping, shapes) for mapping in pair.weights):
        raise NotAlone("the order of the kernel rows depends on the axes that are flattened before the layer")


def _moves_rows(mapping: WeightMapping, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether the transform of a matrix reorders the rows of the Keras kernel, as after a Flatten."""
    shape = shapes[mapping.torch[0]] if len(mapping.torch) == len(mapping.keras) == 1 else ()
    if len(shape) != 2:
        return False
    places = np.arange(shape[1])
    try:
        (moved,) = mapping.transform((places[None],))
    except (TransformError, IndexError):  # a transform that needs the whole tensor, which has no such rows
        return False
    return moved.shape == (shape[1], 1) and not np.array_equal(moved[:, 0], places)


def _models(subject: Subject, pair: Pair) -> tuple[Any, Any, Inputs]:
    """Return a torch and a Keras model with one layer of the pair each, and their inputs.

    If the two layers return different shapes, the Keras model also gets the layers without weights that the rule
    creates before or after its layer, such as a padding.
    """
    rule, beside = find(pair.rule), _layers_beside(subject, pair)
    returned = ""
    for specs in (((), ()), *([beside] if any(beside) else [])):
        try:
            torch, keras, inputs = _built(subject, pair, rule, specs)
            shapes = _returned(torch, keras, inputs)
        except (ModelError, FileError, *RAISED_BY_MODELS) as error:
            returned = returned or f"{type(error).__name__}: {' '.join(message_of(error).split())}"
            continue
        if shapes[0] == shapes[1]:
            return torch, keras, inputs
        returned = (
            f"run alone, the torch layer returns {shapes[0]} and the Keras layer {shapes[1]}: one of them needs a "
            "layer before or after it, such as a padding"
        )
    raise NotAlone(returned)


def _layers_beside(subject: Subject, pair: Pair) -> tuple[LayerSpecs, LayerSpecs]:
    """Return the Keras layers without weights that the rule creates before and after the layer with the weights."""
    rule = find(pair.rule)
    if (rule.torch_count, rule.keras_count) != (1, 1):
        return (), ()
    config = torch_config(rule, subject.torch_layers[pair.torch], subject.keras_layers[pair.keras])
    try:
        specs = rule.to_keras(config or {})
    except (RuleError, *RAISED_BY_MODELS):
        return (), ()
    places = [place for place, spec in enumerate(specs) if spec.kind == rule.keras]
    return (specs[: places[0]], specs[places[0] + 1 :]) if len(places) == 1 else ((), ())


def _returned(torch: Any, keras: Any, inputs: Inputs) -> list[tuple[int, ...]]:
    """Return the shapes of the outputs of two models that were made of a pair of layers."""
    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch import module as torch_side

    runs = torch_side.run(torch, inputs.torch, watch=False), keras_side.run(keras, inputs.keras, watch=False)
    return [next(iter(run.outputs.values())).shape for run in runs]


def _built(subject: Subject, pair: Pair, rule: Rule, beside: tuple[LayerSpecs, LayerSpecs]) -> tuple[Any, Any, Inputs]:
    """Return a torch and a Keras model with only the layers of the pair, with their weights, and random inputs.

    Args:
        subject: The whole models.
        pair: The pair of layers.
        rule: The rule of the pair.
        beside: The Keras layers without weights to call before and after the layer of the pair, such as a padding.
    """
    from keras3conv.frameworks.keras import alone as keras_alone
    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch import alone as torch_alone
    from keras3conv.frameworks.torch import module as torch_side

    layers = keras_alone.layers_by_path(subject.keras)
    configs = _config(subject.torch_layers, pair.torch_layers), _config(subject.keras_layers, pair.keras_layers)
    shapes = _argument_shapes(rule, keras_alone.argument_shapes(layers[pair.keras_layers[0]]))
    arrays = list(_arrays(shapes, _index_limit(subject, pair, rule)))
    keras_inputs = arrays if len(arrays) > 1 else arrays[0]
    made = {path: layers[path] for path in pair.keras_layers}
    keras = keras_alone.alone(made, shapes, arrays[0].dtype.name, joined=rule.parallel and len(made) > 1, beside=beside)
    keras_side.write(keras, _values(keras_side.view(keras), subject.keras_view, subject.plan, pair))
    (returned, *_) = keras_side.run(keras, keras_inputs, watch=False).outputs.values()

    def select(outputs: Arrays) -> Array:
        return _with_axes_of(output_of(outputs, rule, *configs, returned.shape), returned.shape)

    copies = {path: torch_alone.copy_of_layer(subject.torch, path) for path in pair.torch_layers}
    is_joined = rule.parallel and len(copies) > 1
    torch = torch_alone.Alone(copies, rule.torch_arguments, select, joined=is_joined).eval()
    torch_side.write(torch, _values(torch_side.view(torch), subject.torch_view, subject.plan, pair))
    features = _features(subject, pair)
    torch_inputs = [like_torch(_merged(array, features), rule, *configs) for array in _in_torch_order(rule, arrays)]
    return torch, keras, Inputs(torch=tuple(torch_inputs), keras=keras_inputs, note="random inputs of each layer")


def _features(subject: Subject, pair: Pair) -> int:
    """Return the number of input features of a torch layer whose kernel is a matrix; 0 for other layers."""
    shapes = {tensor.path: tensor.shape for tensor in subject.torch_view.tensors()}
    kernels = [shapes[path] for path in pair.weights[0].torch if path in shapes] if pair.weights else []
    return kernels[0][-1] if kernels and all(len(shape) == 2 for shape in kernels) else 0


def _merged(array: Array, features: int) -> Array:
    """Return an array with its last axes (heads, and the size of a head) merged to the feature axis of a matrix."""
    for kept in range(1, array.ndim - 1):
        if array.shape[-1] != features == np.prod(array.shape[kept:]):
            return array.reshape(*array.shape[:kept], features)
    return array


def _with_axes_of(output: Array, shape: tuple[int, ...]) -> Array:
    """Return torch's output with its last axis split as in Keras, into heads: (batch, 512) -> (batch, 8, 64)."""
    divides = 1 < output.ndim < len(shape) and output.shape[:-1] == shape[: output.ndim - 1]
    return output.reshape(shape) if divides and output.size == np.prod(shape) else output


def _config(layers: Mapping[str, LayerView], paths: Sequence[str]) -> Config:
    """Return the configuration of the layer at `paths`; for several layers, a dict of configurations by index."""
    if len(paths) == 1:
        return layers[paths[0]].config or {}
    return {str(number): layers[path].config for number, path in enumerate(paths)}


def _argument_shapes(rule: Rule, built: Mapping[str, Shape]) -> list[Shape]:
    """Return the shapes of the inputs of a Keras layer, in the order of its arguments.

    Args:
        rule: The rule of the pair; its examples have as many inputs as the layers.
        built: The shapes with which the Keras layer was built, by argument.
    """
    wanted = len(rule.examples[0].inputs)
    if {"query", "value"} == built.keys() and wanted == 3:
        built = {**built, "key": built["value"]}  # the default of Keras
    if len(built) != wanted:
        raise NotAlone(
            f"the Keras layer was built for {count(len(built), 'input')}, but the calls in the `examples` of the rule "
            f"for its class have {wanted}"
        )
    return list(built.values())


def _index_limit(subject: Subject, pair: Pair, rule: Rule) -> int:
    """Return the number of distinct indices that the layers accept; 0 if their inputs are not indices."""
    if not rule.examples[0].integers:
        return 0
    tensors = {tensor.path: tensor for tensor in subject.keras_view.tensors()}
    return tensors[pair.weights[0].keras[0]].shape[0]


def _arrays(shapes: Iterable[Shape], limit: int) -> Iterator[Array]:
    """Yield a random array of each shape: numbers between -2 and 2, or indices below the limit."""
    generator = np.random.default_rng(_SEED)
    for batch, *others in shapes:
        sizes = (batch or BATCH, *(SIZE if size is None else size for size in others))
        yield (
            generator.integers(0, limit, sizes, "int32") if limit else generator.uniform(-2, 2, sizes).astype("float32")
        )


def _in_torch_order(rule: Rule, arrays: Sequence[Array]) -> list[Array]:
    """Return the input arrays of a Keras layer, sorted as the torch layer takes them: (query, value, key) -> (q, k, v).

    Args:
        rule: The rule of the two layers, which knows the order.
        arrays: The inputs in the order of the Keras layer.
    """
    order = rule.keras_arguments(tuple(range(len(arrays))))
    return [array for _, array in sorted(zip(order, arrays, strict=True), key=lambda entry: entry[0])]


def _values(small: ModelView, view: ModelView, plan: Alignment, pair: Pair) -> Iterator[tuple[str, Array]]:
    """Yield the path and the values of every tensor of a model that has one layer only.

    Args:
        small: The view of the model with one layer.
        view: The view of the whole model, or of its file, which has the values under the same paths.
        plan: The plan of the two whole models.
        pair: The pair to which the layer belongs.

    Raises:
        NotAlone: The layer has a trainable tensor that the plan lists under another pair.
    """
    own = {path for mapping in pair.weights for path in mapping.names(small.side)}
    ignored = {entry.path for entry in plan.ignored if entry.side == small.side}
    for tensor in small.tensors():
        if tensor.is_seed:
            continue
        if tensor.trainable and tensor.path not in own | ignored:
            raise NotAlone(f"the layer also has the tensor {tensor.path}, which the plan lists under another pair")
        yield tensor.path, view.read(tensor.path)


def _views(torch: Any, keras: Any) -> tuple[ModelView, ModelView]:
    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch import module as torch_side

    return torch_side.view(torch), keras_side.view(keras)
