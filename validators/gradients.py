"""The two models learn alike: one backward pass on each side, in float64, and one step in training mode.

The loss is the sum of all outputs, each element with a weight of its own; its gradients are mapped through the plan. A
step of stochastic gradient descent changes every tensor by its gradient times the learning rate, so the changes are
compared, not the tensors, in which they would be hard to see.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from keras3conv.alignment.pair import Pair
from keras3conv.alignment.staging import direction
from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.shared.inputs import SEED
from keras3conv.frameworks.shared.layout import channels_first
from keras3conv.frameworks.shared.recording import Backward
from keras3conv.messages import count
from keras3conv.numerics.difference import FLOAT64_LIMIT, NOT_FINITE, compare
from keras3conv.report.values import Cell, Section, Table
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Array, Arrays
from keras3conv.validators.diagnosis.causes import Explanation
from keras3conv.validators.diagnosis.momentum import explain_step
from keras3conv.validators.running.batch_norms import BatchNorm, batch_norms, unbiased_step
from keras3conv.validators.running.ends import OutputPair, output_pairs
from keras3conv.validators.running.subject import Subject

CLAIM = (
    "Both models learn alike: in float64, under probe weights, the gradients of one loss agree for every tensor to "
    f"{FLOAT64_LIMIT:g} of its largest gradient; so do, where there are batch statistics, the changes of one step of "
    "gradient descent in training mode, and the moving statistics after it."
)

SMALLEST = 1e-14
"""What rounding leaves of a gradient that is zero, as a share of the largest gradient of all: where terms cancel (the
bias of a key in an attention, a bias before a batch normalisation) nothing else is left of it."""


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """How far a tensor's gradient, or its value after the step, is from the other side's."""

    torch: str
    keras: str
    what: str
    error: float
    passed: bool
    cause: Explanation | None = None


def check(subject: Subject) -> Section:
    """Compares the gradients of every tensor of the plan, then those of one step in training mode."""
    if subject.not_run:
        return _skipped(subject.not_run)
    weights = _weights(subject)
    if isinstance(weights, str):
        return _skipped(weights)
    if not any(_is_learned(subject, mapping) for mapping in subject.plan.mappings):
        return _skipped("neither model has a weight that is trained, so there is no gradient to compare")
    try:
        findings = list(_gradients(subject, weights, ()))
        norms = tuple(batch_norms(subject))
        step = list(_gradients(subject, weights, norms)) if norms else []
    except ModelError as error:
        return _skipped(str(error))
    bad = [place for place, finding in enumerate([*findings, *step]) if not finding.passed]
    everything = [*findings, *step]
    worst = max((finding.error for finding in findings), default=0.0)
    summary = f"{count(len(findings), 'gradient')} agree to {worst:.2g}"
    if step:
        summary += f", one step in training mode to {max(finding.error for finding in step):.2g}"
    return Section(
        name="gradients",
        status="failed" if bad else "passed",
        claim=CLAIM,
        summary=f"{len(bad)} of {len(everything)} differ" if bad else summary,
        facts=_facts(norms, everything, strict=subject.options.training),
        tables=(_table(everything, bad),),
        problems=tuple(_problem(everything[place]) for place in bad[:20]),
    )


def _skipped(reason: str) -> Section:
    return Section(name="gradients", status="skipped", claim=CLAIM, summary="not run", reason=reason)


def _facts(norms: tuple[BatchNorm, ...], findings: list[_Finding], *, strict: bool) -> dict[str, str]:
    facts = {}
    if norms:
        facts["in training mode"] = count(len(norms), "batch normalisation")
        facts["declared"] = "torch stores the unbiased variance of a batch, N/(N-1) times that of Keras"
    other = [norm.pair.torch for norm in norms if not norm.same_momentum]
    if other and not strict:
        facts["moving statistics not compared"] = f"the momentum differs: {', '.join(other)}"
    if not findings:
        facts["nothing to compare"] = "no tensor of the plan has a gradient"
    return facts


def _weights(subject: Subject) -> tuple[dict[str, Array], dict[str, Array]] | str:
    """What every element of the outputs weighs in the loss, on both sides; or why there is no loss."""
    generator = np.random.default_rng(SEED)
    torch: dict[str, Array] = {}
    keras: dict[str, Array] = {}
    for pair in output_pairs(subject.torch_probe, subject.keras_probe):
        if pair.odd:
            return f"the outputs cannot be compared: {pair.odd}"
        if pair.keras.dtype.kind == "f":
            weight = generator.uniform(0.5, 1.5, pair.keras.shape)
            keras[pair.keys[1]] = weight
            torch[pair.keys[0]] = _like_torch(weight, pair)
    return (torch, keras) if keras else "no output is a real number, so nothing has a gradient"


def _like_torch(weight: Array, pair: OutputPair) -> Array:
    moved = channels_first(weight) if pair.layout == "channels moved last" else weight
    return np.ascontiguousarray(moved)


def _gradients(
    subject: Subject, weights: tuple[dict[str, Array], dict[str, Array]], norms: tuple[BatchNorm, ...]
) -> Iterator[_Finding]:
    """What the two backward passes found; with batch normalisations in training mode, if any are given."""
    mappings = [(pair, mapping) for pair in subject.plan.pairs for mapping in pair.weights]
    learned = [entry for entry in mappings if _is_learned(subject, entry[1])]
    torch = _torch_backward(subject, weights[0], learned, norms)
    keras = _keras_backward(subject, weights[1], learned, norms)
    whole = max((float(np.max(np.abs(array), initial=0.0)) for array in torch.gradients.values()), default=0.0)
    tied = _over_ties(subject, [mapping for _, mapping in learned], torch.gradients, keras.gradients)
    for pair, mapping in learned:
        for path, there, here in _of_mapping(mapping, torch.gradients, keras.gradients):
            what = "change in one step" if norms else "gradient"
            yield _finding(pair, path, what, (tied.get(path, here), there), whole)
    for norm in norms:
        if norm.same_momentum or subject.options.training:
            yield from _statistics(subject, norm, torch, keras)


def _is_learned(subject: Subject, mapping: WeightMapping) -> bool:
    """Whether both sides train it; what Keras does without has no gradient there."""
    trained = all(path in subject.probe_weights and path in subject.parameters for path in mapping.torch)
    return trained and bool(mapping.keras)


def _torch_backward(
    subject: Subject,
    weights: Mapping[str, Array],
    learned: list[tuple[Pair, WeightMapping]],
    norms: tuple[BatchNorm, ...],
) -> Backward:
    from keras3conv.frameworks.torch import gradients as torch_gradients

    return torch_gradients.backward(
        subject.torch,
        subject.given.torch,
        subject.probe_weights,
        weights,
        of=[path for _, mapping in learned for path in mapping.torch],
        training=[norm.pair.torch for norm in norms],
    )


def _keras_backward(
    subject: Subject,
    weights: Mapping[str, Array],
    learned: list[tuple[Pair, WeightMapping]],
    norms: tuple[BatchNorm, ...],
) -> Backward:
    from keras3conv.frameworks.keras import gradients as keras_gradients
    from keras3conv.frameworks.keras import model as keras_side

    with keras_side.precise(), keras_side.float64_mode(subject.keras):
        keras_side.write(subject.keras, subject.keras_probe_weights)
        return keras_gradients.backward(
            subject.keras,
            subject.given.keras,
            weights,
            of=[path for _, mapping in learned for path in mapping.keras],
            training=[norm.pair.keras for norm in norms],
        )


def _over_ties(
    subject: Subject, mappings: list[WeightMapping], torch: Mapping[str, Array], keras: Mapping[str, Array]
) -> dict[str, Array]:
    """Keras' gradients of what is one tensor in torch and several variables in Keras: their sum, by each of its names.

    The derivative by a tensor that is used twice is the sum of those by its two uses.
    """
    storages = {tensor.path: tensor.storage for tensor in subject.torch_view.tensors() if tensor.storage}
    parts: dict[str, dict[str, Array]] = {}
    for mapping in mappings:
        if storages.keys() & set(mapping.torch):
            for path, _, here in _of_mapping(mapping, torch, keras):
                if path in storages:
                    parts.setdefault(storages[path], {})[path] = here
    return {path: np.sum(list(found.values()), axis=0) for found in parts.values() if len(found) > 1 for path in found}


def _of_mapping(
    mapping: WeightMapping, torch: Mapping[str, Array], keras: Mapping[str, Array]
) -> Iterator[tuple[str, Array, Array]]:
    """The gradients of a mapping's tensors on both sides: the paths, torch's, and Keras' as torch has them.

    A transform that only moves values moves their gradients alike. Any other is judged by the change of the loss along
    one direction, which a transform cannot change.
    """
    here, there = tuple(torch[path] for path in mapping.torch), tuple(keras[path] for path in mapping.keras)
    if _only_moves(mapping, here):
        back = direction(mapping, "torch")(there)
        yield from zip(mapping.torch, here, back, strict=True)
        return
    generator = np.random.default_rng(SEED)
    steps = tuple(generator.uniform(-1.0, 1.0, array.shape) for array in here)
    move = direction(mapping, "keras")
    origin = move(tuple(np.zeros(array.shape) for array in here))
    moved = tuple(new - old for new, old in zip(move(steps), origin, strict=True))
    yield ", ".join(mapping.torch), _along(here, steps), _along(there, moved)


def _only_moves(mapping: WeightMapping, like: Arrays) -> bool:
    """Whether a transform gives back every number that it was given, once, in another place."""
    numbers, start = [], 1
    for array in like:
        numbers.append(np.arange(start, start + array.size, dtype=np.float64).reshape(array.shape))
        start += array.size
    moved = direction(mapping, "keras")(tuple(numbers))
    return np.array_equal(np.sort(np.concatenate([array.ravel() for array in moved])), np.arange(1.0, start))


def _along(gradients: Arrays, steps: Arrays) -> Array:
    return np.array([sum(float(np.sum(gradient * step)) for gradient, step in zip(gradients, steps, strict=True))])


def _statistics(subject: Subject, norm: BatchNorm, torch: Backward, keras: Backward) -> Iterator[_Finding]:
    """The moving statistics after the step; torch's variance without its factor N/(N-1)."""
    for mapping in norm.pair.weights:
        if any(path in subject.parameters or path not in torch.states for path in mapping.torch):
            continue
        found = tuple(torch.states[path] for path in mapping.torch)
        before = tuple(subject.probe_weights[path] for path in mapping.torch)
        if mapping.torch and mapping.torch[0].endswith("running_var"):
            found = tuple(unbiased_step(new, old, norm) for new, old in zip(found, before, strict=True))
        wanted = direction(mapping, "keras")(found)
        started = direction(mapping, "keras")(before)
        for path, here, old in zip(mapping.keras, wanted, started, strict=True):
            found_here = _finding(norm.pair, path, "moving statistics after one step", (keras.states[path], here), 0.0)
            if found_here.passed or here.shape != keras.states[path].shape:
                yield found_here
            else:
                cause = explain_step(old, here, keras.states[path], norm.momentum, norm.number)
                yield replace(found_here, cause=cause)


def _finding(pair: Pair, path: str, what: str, arrays: tuple[Array, Array], whole: float) -> _Finding:
    actual, expected = arrays
    name = f"{what} of {path}"
    if actual.shape != expected.shape or not actual.size:
        same = actual.shape == expected.shape
        return _Finding(torch=pair.torch, keras=pair.keras, what=name, error=0.0 if same else np.inf, passed=same)
    diff = compare(actual, expected)
    near = diff.max_abs == 0 or diff.max_abs <= FLOAT64_LIMIT * diff.scale + SMALLEST * whole
    passed = diff.nonfinite == 0 and near
    error = diff.max_abs / (diff.scale + SMALLEST / FLOAT64_LIMIT * whole) if diff.max_abs else 0.0
    error = np.inf if diff.nonfinite else error
    return _Finding(torch=pair.torch, keras=pair.keras, what=name, error=error, passed=passed)


def _problem(finding: _Finding) -> Problem:
    by = f"by {finding.error:.2g} of the largest" if np.isfinite(finding.error) else f"in {NOT_FINITE}"
    fact = f"the {finding.what} differs {by}"
    cause = finding.cause
    return Problem(
        torch=finding.torch,
        keras=finding.keras,
        fact=f"{fact}\n      {cause.cause}" if cause else fact,
        fixes=cause.fixes if cause else (),
    )


def _table(findings: list[_Finding], bad: list[int]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple((one.torch, one.keras, one.what, one.error) for one in findings)
    return Table(title="gradients", columns=("torch", "keras", "what", "relative error"), rows=rows, failed=tuple(bad))
