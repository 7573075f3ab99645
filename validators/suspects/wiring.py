"""How layers are joined: a factor or a shortcut that one side has not, the weights of another layer."""

from collections.abc import Iterator
from typing import Any

from keras3conv.frameworks.torch_replay import Operation, TorchCall
from keras3conv.validators.suspects.base import Case, Suspect, Suspicion, doing


def _factor(case: Case) -> Iterator[Suspicion]:
    """A number that torch multiplies by, or adds, and Keras does not; in `mul` and `add` it is the second argument."""
    words = {"mul": "multiplies by", "div": "divides by", "add": "adds", "sub": "subtracts"}
    for operation in case.named(*words):
        number = operation.get("dim")
        if isinstance(number, int | float) and not isinstance(number, bool):
            yield Suspicion(
                cause=f"torch {words[operation.name]} {number:.6g} {case.where}, Keras does not",
                fix=f"x = keras.ops.{_keras_name(operation)}(x, {number!r})  # {case.where_keras}",
                changes={operation.key: lambda call: call.get("input")},
            )


def _measured(case: Case) -> Iterator[Suspicion]:
    """A number that Keras multiplies by, and torch does not (a scaled embedding): it is read off the values."""
    sources = [operation for operation in case.feeding if operation.result is not None]
    if case.ratio is None or not sources or abs(case.ratio - 1) < 1e-6:
        return
    ratio, square = case.ratio, case.ratio**2
    told = f" = sqrt({round(square)})" if abs(square - round(square)) < 1e-5 * square else ""
    yield Suspicion(
        cause=f"Keras multiplies by {ratio:.6g}{told} {case.where_keras}, torch does not",
        fix=f"x = x * {ratio!r}  # {case.where}",
        changes={sources[-1].key: lambda call: call.run() * ratio},
    )


def _keras_name(operation: Operation) -> str:
    return {"mul": "multiply", "div": "divide", "add": "add", "sub": "subtract"}[operation.name]


def _shortcut(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("add"):
        if isinstance(operation.get("input"), tuple) and isinstance(operation.get("dim"), tuple):
            for name in ("input", "dim"):
                if operation.get(name) == operation.result:
                    yield Suspicion(
                        cause=f"torch adds two tensors {case.where}, Keras has only the "
                        f"{'first' if name == 'input' else 'second'} of them",
                        fix=f"x = keras.layers.Add()([x, {'second' if name == 'input' else 'first'}])  "
                        f"# {case.where_keras}",
                        changes={operation.key: doing(_only, name)},
                    )


def _only(call: TorchCall, name: str) -> Any:
    return call.get(name)


def _other_layer(case: Case) -> Iterator[Suspicion]:
    """Two layers of equal shapes, each with the weights of the other."""
    if not case.inside:
        return
    own = {path: shape for path, shape in case.tensors.items() if path.rpartition(".")[0] == case.torch_path}
    roles = {path.rpartition(".")[2]: shape for path, shape in own.items() if not path.endswith("num_batches_tracked")}
    owners = dict.fromkeys(path.rpartition(".")[0] for path in case.tensors)
    for owner in owners:
        theirs = {role: case.tensors.get(f"{owner}.{role}") for role in roles}
        if owner != case.torch_path and roles and theirs == roles:
            yield Suspicion(
                cause=f"Keras has the weights of {owner} here: layers of equal shapes are swapped",
                fix=f'plan = plan.pair("{owner}", "{case.keras_path}")',
                tensors={f"{case.torch_path}.{role}": case.read(f"{owner}.{role}") for role in roles},
            )


FACTORS = (
    Suspect("a factor or a summand", _factor),
    Suspect("a factor that is measured", _measured),
)

SUSPECTS = (
    Suspect("a shortcut", _shortcut),
    Suspect("weights of another layer", _other_layer),
)
