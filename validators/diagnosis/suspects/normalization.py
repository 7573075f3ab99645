"""Normalisation: another epsilon, other statistics, a scale and an offset in each other's place."""

from collections.abc import Iterator
from typing import Any

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, running

_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")

_DEFAULTS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12)
"""Epsilons that layers of either framework, and models that people published, have."""


def _epsilon(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_NORMS):
        ours = operation.get("eps", 1e-5)
        for theirs in dict.fromkeys((*case.in_keras("epsilon"), *_DEFAULTS)):
            if theirs != ours:
                yield Suspicion(
                    cause=f"epsilon is {ours:g} in torch and {theirs:g} in Keras" if ours else _of_dtype(theirs),
                    fix=_constructor(case, operation, f"eps={theirs:g}"),
                    changes={operation.key: running(eps=theirs)},
                )


def _of_dtype(theirs: float) -> str:
    return f"epsilon is that of the dtype in torch and {theirs:g} in Keras"


def _added_epsilon(case: Case) -> Iterator[Suspicion]:
    """An epsilon in code of the model's own: a small number that is added."""
    for operation in case.named("add"):
        ours = operation.get("dim")  # the second argument: of `add` it is what is added
        if isinstance(ours, float) and 0 < ours < 0.01:
            for theirs in dict.fromkeys((*case.in_keras("epsilon"), *_DEFAULTS)):
                if theirs != ours:
                    yield Suspicion(
                        cause=f"epsilon is {ours:g} in torch and {theirs:g} in Keras",
                        fix=f"eps = {theirs:g}  # {operation.owner}",
                        changes={operation.key: running(dim=theirs)},
                    )


def _batch_statistics(case: Case) -> Iterator[Suspicion]:
    def by_batch(call: TorchCall) -> Any:
        return call.run(running_mean=None, running_var=None, training=True)

    for operation in case.named("batch_norm"):
        if not operation.get("training", False):
            yield Suspicion(
                cause="Keras normalises by the statistics of the batch, as in training, torch by the moving ones",
                fix=f"x = {case.keras_path}(x, training=False)",
                changes={operation.key: by_batch},
            )
        elif operation.get("running_mean") is not None:
            yield Suspicion(
                cause="torch normalises by the statistics of the batch, as in training, Keras by the moving ones",
                fix=f"module.{operation.owner}.eval()  # F.batch_norm(..., training=False)",
                changes={operation.key: running(training=False)},
            )


def _swapped_scale(case: Case) -> Iterator[Suspicion]:
    def swapped(call: TorchCall) -> Any:
        return call.run(weight=call.get("bias"), bias=call.get("weight"))

    for operation in case.named(*_NORMS):
        if operation.get("weight") is not None and operation.get("bias") is not None:
            yield Suspicion(
                cause="gamma and beta are swapped",
                fix=_aligned_again(operation, "weight with beta"),
                changes={operation.key: swapped},
            )


def _swapped_statistics(case: Case) -> Iterator[Suspicion]:
    def swapped(call: TorchCall) -> Any:
        return call.run(running_mean=call.get("running_var"), running_var=call.get("running_mean"))

    for operation in case.named("batch_norm"):
        if operation.get("running_mean") is not None:
            yield Suspicion(
                cause="the moving mean and the moving variance are swapped",
                fix=_aligned_again(operation, "running_mean with moving_variance"),
                changes={operation.key: swapped},
            )


def _missing(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_NORMS):
        for role, theirs in (("weight", "scale"), ("bias", "center")):
            if operation.get(role) is not None:
                yield Suspicion(
                    cause=f"Keras has no {'gamma' if role == 'weight' else 'beta'}, torch has {role}",
                    fix=f"{theirs}=True  # {case.keras_path}",
                    changes={operation.key: running(**{role: None})},
                )


def _groups(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("group_norm"):
        channels, ours = operation.get("input")[1], operation.get("num_groups")
        wanted = (channels if number == -1 else int(number) for number in case.in_keras("groups"))
        for theirs in dict.fromkeys((*wanted, 1, channels)):
            if theirs != ours and channels % theirs == 0:
                yield Suspicion(
                    cause=f"the number of groups is {ours} in torch and {theirs} in Keras",
                    fix=f"nn.GroupNorm({theirs}, {channels}, eps={operation.get('eps', 1e-5):g})  # {operation.owner}",
                    changes={operation.key: running(num_groups=theirs)},
                )


def _biased_variance(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("var", "std"):
        if operation.get("correction", 1) and operation.get("unbiased", True):
            yield Suspicion(
                cause=f"torch takes the unbiased {operation.name}, divided by N - 1; Keras the biased one",
                fix=f"x.{operation.name}(..., unbiased=False)  # {operation.owner}",
                changes={operation.key: _biased},
            )


def _biased(call: TorchCall) -> Any:
    kwargs = {name: value for name, value in call.kwargs.items() if name not in ("correction", "unbiased")}
    return TorchCall(call.function, call.args, {**kwargs, "correction": 0}).run()


def _aligned_again(operation: Operation, wrong: str) -> str:
    return f"plan = k3c.align(torch, keras)  # what was written into {operation.owner} pairs {wrong}"


def _constructor(case: Case, operation: Operation, argument: str) -> str:
    """The line that makes the torch layer with one argument changed."""
    kind = case.classes.get(operation.owner, "")
    if not kind.startswith("torch.nn."):
        return f"{argument}  # {operation.owner or case.where}"
    shape = operation.get("normalized_shape")
    first = [*(shape or operation.get("running_mean") or operation.get("weight") or ())]
    given = str(first[0]) if len(first) == 1 else str(tuple(first))
    if operation.name == "group_norm":
        given = f"{operation.get('num_groups')}, {given}"
    return f"{kind.removeprefix('torch.')}({given}, {argument})"


SUSPECTS = (
    Suspect("epsilon", _epsilon),
    Suspect("epsilon in own code", _added_epsilon),
    Suspect("statistics of the batch", _batch_statistics),
    Suspect("gamma and beta swapped", _swapped_scale),
    Suspect("mean and variance swapped", _swapped_statistics),
    Suspect("gamma or beta missing", _missing),
    Suspect("number of groups", _groups),
    Suspect("biased variance", _biased_variance),
)
