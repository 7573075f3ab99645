"""State in the certificate (the report of `validate`) the differences in training mode that gradients do not show."""

from collections.abc import Collection, Mapping

from keras3conv.alignment.pair import Pair
from keras3conv.errors import Problem, first_of
from keras3conv.fixes import in_framework
from keras3conv.messages import count
from keras3conv.report.values import UNLIKE
from keras3conv.validators.running.batch_norms import BatchNorm, untried
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.untrained_rows import untrained_rows


def not_alike(norms: tuple[BatchNorm, ...], unlike: list[Problem], computed: list[Problem]) -> str:
    """Return the end of the result line of the gradients: the differences that fail only with `training=True`.

    For example: "; in training the models differ: the momentum of bn1, ...". Empty without differences.

    Args:
        norms: The batch normalisations that were compared.
        unlike: The problems of batch normalisations that use the statistics of the batch on one side only.
        computed: The problems of weights that torch computes from other tensors.
    """
    texts = []
    other = [norm.pair.torch for norm in norms if not norm.same_momentum]
    if other:
        texts.append(f"the momentum of {first_of(other, 1)}, and so the moving statistics")
    if unlike:
        texts.append(f"{count(len(unlike), 'batch normalisation')} not alike in training mode")
    if computed:
        texts.append(f"{count(len(computed), 'weight')} that torch computes from others")
    listed = "; ".join(texts)
    option = "with --training (training=True in Python) this is a failure"
    return f"; in training the models differ: {listed}; {option}" if texts else ""


def unlike(subject: Subject, pair: Pair, in_torch: bool, in_keras: bool) -> Problem:
    """Return the problem that a batch normalisation uses the batch's statistics in training on one side only.

    Args:
        subject: The models.
        pair: The torch layer and the Keras layer.
        in_torch: Whether torch uses them.
        in_keras: Whether Keras uses them; the opposite of `in_torch`.
    """
    taken, kept = ("torch", "Keras") if in_torch else ("Keras", "torch")
    fact = f"in training mode {taken} normalises with the statistics of the batch, {kept} with its moving statistics"
    name = pair.keras.rpartition("/")[2]
    fix = f"trainable={in_torch}  # {name}"
    if in_torch and (subject.keras_layers[pair.keras].config or {}).get("trainable", True):
        fix = f"training=training  # in the call of {name}, instead of training=False"
    return Problem(torch=pair.torch, keras=pair.keras, fact=fact, fixes=(in_framework(fix, "keras"),))


def corrected(pair: Pair) -> Problem:
    """Return the problem that Keras corrects the statistics of the batch in training, which torch never does."""
    fact = (
        "in training mode Keras corrects the statistics of the batch towards its moving statistics (renorm=True), "
        "torch has no such correction"
    )
    return Problem(torch=pair.torch, keras=pair.keras, fact=fact)


def statistics_facts(statistics: Mapping[str, tuple[Pair, bool, bool]], unlike: list[Problem]) -> dict[str, str]:
    """Return lines for the report about batch normalisations that are frozen: {"frozen on both sides": "bn1, bn2"}.

    A side that is frozen uses its moving statistics in training mode, too. If only one side is frozen, the line begins
    with "not alike in training mode".

    Args:
        statistics: For each torch path the pair, and whether torch and Keras use the batch's statistics in training.
        unlike: The problems of all layers that act differently in training mode.
    """
    both = [path for path, (_, in_torch, in_keras) in statistics.items() if not in_torch and not in_keras]
    facts = {"frozen on both sides": ", ".join(both)} if both else {}
    listed = "; ".join(f"{problem.torch}: {problem.fact}" for problem in unlike)
    return facts | ({UNLIKE: listed} if listed else {})


def untried_facts(subject: Subject, frozen: Collection[str]) -> dict[str, str]:
    """Return the line for the report about batch normalisations that were not compared in training mode, with reasons.

    It leaves out the layers in `frozen`, torch paths of batch normalisations.
    """
    listed = [f"{', '.join(paths)} ({reason})" for reason, paths in untried(subject, frozen).items()]
    return {"not tried in training mode": "; ".join(listed)} if listed else {}


def untrained_facts(subject: Subject) -> dict[str, str]:
    """Return a line for the report with the embedding rows that torch does not train (`padding_idx`); {} for none.

    The result is also {} with the option `training`, because the gradients of these rows are then compared.
    """
    if subject.options.training:
        return {}
    rows = [f"row {row} of {path}" for path, row in untrained_rows(subject).items()]
    return {"not compared, as torch does not train it (padding_idx)": ", ".join(rows)} if rows else {}


def trained_as_a_whole(subject: Subject) -> list[Problem]:
    """Return a problem for each weight that Keras trains directly, but torch computes from tensors that it trains."""
    computed = {tensor.path for tensor in subject.torch_view.tensors() if tensor.is_computed and tensor.trainable}
    fact = "torch trains the tensors from which it computes this weight, Keras trains the weight itself"
    return [
        Problem(torch=path, keras=", ".join(mapping.keras), fact=fact)
        for mapping in subject.plan.mappings
        for path in mapping.torch
        if path in computed and mapping.keras
    ]


def kept_states(subject: Subject) -> list[Problem]:
    """Return a problem for each weight that torch computes from a buffer, as in spectral norm.

    Torch updates the buffer in training; in Keras it is constant.
    """
    from keras3conv.frameworks.torch.derived import buffers_of

    found = buffers_of(subject.torch, subject.in_parts)
    fact = "in training mode torch changes {} (spectral norm: by a power iteration), which Keras leaves unchanged"
    return [Problem(torch=path, fact=fact.format(" and ".join(names))) for path, names in found.items()]
