"""Propose mistakes in normalisations as causes: another epsilon, batch statistics, swapped or missing weights."""

from collections.abc import Iterator
from typing import Any

from keras3conv.frameworks.torch.calls import Operation, TorchCall
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, with_arguments

_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")

_DEFAULTS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12)
"""The usual values of epsilon: the defaults of layers in both frameworks, and those of published models."""


def _epsilon(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_NORMS):
        torch_epsilon = operation.get("eps", 1e-5)
        torch_words = f"{torch_epsilon:g}" if torch_epsilon else "that of the dtype"
        for epsilon in _other_epsilons(case, torch_epsilon):
            yield Hypothesis(
                cause=f"epsilon is {torch_words} in torch and {epsilon:g} in Keras",
                fix=_constructor(case, operation, f"eps={epsilon:g}"),
                keras=_epsilon_in_keras(case, operation, torch_epsilon),
                changes={operation.key: with_arguments(eps=epsilon)},
            )


def _epsilon_in_keras(case: Case, operation: Operation, epsilon: float | None) -> str:
    """Return the line that sets torch's epsilon in Keras; empty if torch's value depends on the dtype."""
    in_layer = case.point.keras_path if case.point.in_layer else case.plan.partner(operation.owner)
    return f"epsilon={epsilon:g}  # {in_layer or case.where_keras}" if epsilon else ""


def _other_epsilons(case: Case, torch_epsilon: float | None) -> list[float]:
    candidates = dict.fromkeys((*case.keras_numbers("epsilon"), *_DEFAULTS))
    return [epsilon for epsilon in candidates if epsilon != torch_epsilon]


def _added_epsilon(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras uses a different epsilon in a normalisation written out in the model's own code."""
    for operation in case.operations_named("add"):
        torch_epsilon = operation.get("dim")  # the second argument is named `dim`
        if isinstance(torch_epsilon, float) and 0 < torch_epsilon < 0.01:
            for epsilon in _other_epsilons(case, torch_epsilon):
                yield Hypothesis(
                    cause=f"epsilon is {torch_epsilon:g} in torch and {epsilon:g} in Keras",
                    fix=f"eps = {epsilon:g}  # {case.place(operation)}",
                    keras=_epsilon_in_keras(case, operation, torch_epsilon),
                    changes={operation.key: with_arguments(dim=epsilon)},
                )


def _batch_statistics(case: Case) -> Iterator[Hypothesis]:
    def with_batch_statistics(call: TorchCall) -> Any:
        return call.run(running_mean=None, running_var=None, training=True)

    for operation in case.operations_named("batch_norm"):
        if not operation.get("training", False):
            yield Hypothesis(
                cause="Keras normalises with batch statistics, as in training, torch with moving statistics",
                keras=f"x = {_called(case)}(x, training=False)",
                changes={operation.key: with_batch_statistics},
            )
        elif operation.get("running_mean") is not None:
            yield Hypothesis(
                cause="torch normalises with batch statistics, as in training, Keras with moving statistics",
                fix=_in_evaluation(case, operation),
                keras=f"x = {_called(case)}(x, training=True)",
                changes={operation.key: with_arguments(training=False)},
            )


def _called(case: Case) -> str:
    """Return the name of the normalisation layer in Keras; "norm" if the difference was found only in a later layer."""
    return case.point.keras_path.rpartition("/")[2] if case.point.in_layer else "norm"


def _in_evaluation(case: Case, operation: Operation) -> str:
    """Return the line that makes a batch normalisation of torch take its moving statistics."""
    if case.torch.classes.get(operation.owner, "").startswith("torch.nn."):
        return f"module.{operation.owner}.eval()"
    return f"training=False  # {case.place(operation)}, in F.batch_norm"


def _swapped_scale(case: Case) -> Iterator[Hypothesis]:
    def swapped(call: TorchCall) -> Any:
        return call.run(weight=call.get("bias"), bias=call.get("weight"))

    for operation in case.operations_named(*_NORMS):
        if operation.get("weight") is not None and operation.get("bias") is not None:
            yield Hypothesis(
                cause="gamma and beta are swapped",
                fix=_align_again(case, operation, "weight with beta"),
                changes={operation.key: swapped},
            )


def _swapped_statistics(case: Case) -> Iterator[Hypothesis]:
    def swapped(call: TorchCall) -> Any:
        return call.run(running_mean=call.get("running_var"), running_var=call.get("running_mean"))

    for operation in case.operations_named("batch_norm"):
        if operation.get("running_mean") is not None:
            yield Hypothesis(
                cause="the moving mean and the moving variance are swapped",
                fix=_align_again(case, operation, "running_mean with moving_variance"),
                changes={operation.key: swapped},
            )


def _missing(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_NORMS):
        for role, keras_role, keras_option in (("weight", "gamma", "scale"), ("bias", "beta", "center")):
            if operation.get(role) is not None:
                yield Hypothesis(
                    cause=f"Keras has no {keras_role}, torch has {role}",
                    keras=f"{keras_option}=True  # {case.point.keras_path}",
                    changes={operation.key: with_arguments(**{role: None})},
                )


def _groups(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("group_norm"):
        channels, torch_groups = operation.get("input")[1], operation.get("num_groups")
        in_keras = (channels if number == -1 else int(number) for number in case.keras_numbers("groups"))
        for groups in dict.fromkeys((*in_keras, 1, channels)):
            if groups != torch_groups and channels % groups == 0:
                yield Hypothesis(
                    cause=f"the number of groups is {torch_groups} in torch and {groups} in Keras",
                    fix=f"nn.GroupNorm({groups}, {channels}, eps={operation.get('eps', 1e-5):g})  # {operation.owner}",
                    keras=f"groups={torch_groups}  # {case.point.keras_path}",
                    changes={operation.key: with_arguments(num_groups=groups)},
                )


def _biased_variance(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("var", "std"):
        if operation.get("correction", 1) and operation.get("unbiased", True):
            yield Hypothesis(
                cause=f"torch takes the unbiased {operation.name}, divided by N - 1; Keras the biased one",
                fix=f"x.{operation.name}(..., unbiased=False)  # {case.place(operation)}",
                keras=f"# {case.where_keras}: multiply the variance by n / (n - 1), as torch does",
                changes={operation.key: _biased},
            )


def _biased(call: TorchCall) -> Any:
    kwargs = {name: value for name, value in call.kwargs.items() if name not in ("correction", "unbiased")}
    return TorchCall(call.function, call.args, {**kwargs, "correction": 0}).run()


def _align_again(case: Case, operation: Operation, wrong: str) -> str:
    return case.of_plan("plan = k3c.align(torch, keras)", f"the plan before pairs {wrong} in {operation.owner}")


def _constructor(case: Case, operation: Operation, argument: str) -> str:
    """Return the constructor call of a torch layer with one argument changed, such as "nn.BatchNorm2d(64, eps=0.001)".

    Args:
        case: The point where the models differ.
        operation: The operation of the layer, whose shapes give the other arguments.
        argument: The changed argument, such as "eps=0.001".
    """
    kind = case.torch.classes.get(operation.owner, "")
    if not kind.startswith("torch.nn."):
        return f"{argument}  # {case.place(operation)}"
    shape = operation.get("normalized_shape")
    sizes = [*(shape or operation.get("running_mean") or operation.get("weight") or ())]
    arguments = str(sizes[0]) if len(sizes) == 1 else str(tuple(sizes))
    if operation.name == "group_norm":
        arguments = f"{operation.get('num_groups')}, {arguments}"
    return f"{kind.removeprefix('torch.')}({arguments}, {argument})  # {operation.owner or 'the module itself'}"


SUSPECTS = (
    Suspect("epsilon", _epsilon),
    Suspect("epsilon in own code", _added_epsilon),
    Suspect("batch statistics", _batch_statistics),
    Suspect("gamma and beta swapped", _swapped_scale),
    Suspect("mean and variance swapped", _swapped_statistics),
    Suspect("gamma or beta missing", _missing),
    Suspect("number of groups", _groups),
    Suspect("biased variance", _biased_variance),
)
