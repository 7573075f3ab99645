"""Search the cause of a difference: rerun torch with a hypothetical change, and compare the result with Keras."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras3conv.errors import Problem
from keras3conv.fixes import in_framework
from keras3conv.messages import count
from keras3conv.model.views import Side
from keras3conv.numerics.difference import FLOAT64_LIMIT, compare
from keras3conv.numerics.judgement import judge
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.divergence import Divergence, Runs, largest_difference
from keras3conv.validators.running.transferred import TO_KERAS, transfers

if TYPE_CHECKING:
    from keras3conv.frameworks.torch.calls import Change, Key
    from keras3conv.validators.diagnosis.suspects import Case, Hypothesis

CLOSER = 4.0
"""The least factor by which a hypothesis must reduce the difference between torch and Keras to explain it."""

MUCH_CLOSER = 10.0
"""The factor from which a hypothesis that reduces the difference may be one of two causes of it."""

_LINES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A cause in words, and the line of code that fixes it.

    Attributes:
        cause: The difference between the two sides, or the reason why no cause was found.
        fix: The line to paste for the torch side, or one that makes or follows a plan; empty if there is none.
        keras: The line for the Keras side; empty if there is none.
        is_found: Whether the cause explains the difference.
        port: The side ("torch" or "keras") whose weights a transfer wrote; None if unknown.
    """

    cause: str
    fix: str = ""
    keras: str = ""
    is_found: bool = True
    port: Side | None = None

    @property
    def fixes(self) -> tuple[str, ...]:
        """The lines of code to paste, for `Problem.fixes`: first the line for torch, then the line for Keras.

        A transfer is printed in both directions: the report does not know which of the models has the right weights.
        """
        if self.fix == TO_KERAS:
            return transfers(self.port)
        lines = in_framework(self.fix, "torch"), in_framework(self.keras, "keras")
        return tuple(dict.fromkeys(filter(None, lines)))


def explained_problem(torch: str, keras: str, fact: str, explanation: Explanation | None) -> Problem:
    """Return the problem that a torch layer and a Keras layer differ, with cause and fix if these are known.

    Args:
        torch: The path of the torch layer.
        keras: The path of the Keras layer.
        fact: A sentence on their difference.
        explanation: The cause and the lines that fix it; None if unknown.
    """
    if explanation is None:
        return Problem(torch=torch, keras=keras, fact=fact)
    return Problem(torch=torch, keras=keras, fact=f"{fact}\n      {explanation.cause}", fixes=explanation.fixes)


@dataclass(frozen=True)
class _Trial:
    """The result of rerunning torch with the change of a hypothesis.

    Attributes:
        hypothesis: The hypothesis. In the search for a second cause, it is combined with the hypothesis of the first.
        before: Distance between torch and Keras without the hypothesis.
        after: Distance between torch and Keras with the hypothesis.
        explains: Whether the remaining distance is rounding.
        remainder: The remaining distance in float64, relative to the largest value; infinite in another dtype.
    """

    hypothesis: "Hypothesis"
    before: float
    after: float
    explains: bool
    remainder: float

    @property
    def is_closer(self) -> bool:
        """True if the hypothesis reduces the difference between torch and Keras by more than chance would."""
        return CLOSER * self.after <= self.before

    @property
    def is_much_closer(self) -> bool:
        """True if the hypothesis reduces the difference between torch and Keras so much that two causes are likely."""
        return MUCH_CLOSER * self.after <= self.before


def find_cause(divergence: Divergence, case: "Case", *, single: bool = False) -> Explanation | None:
    """Return the cause of a difference: the hypothesis that explains it, else a pair of hypotheses; None if none does.

    The suspects (known kinds of mistakes) propose hypotheses, one suspect after the other. Two models may differ in
    more than one thing. If no hypothesis explains the difference, the one that brings torch closest to Keras is
    assumed, and the cause of the remaining difference is searched in the same way.

    Args:
        divergence: The point where the models differ, and the number of runs that are allowed. The search for a second
            cause may make as many runs again.
        case: The facts about this point that the suspects use.
        single: Whether to search for a single cause only.
    """
    explanation, partial = _try_suspects(divergence, case, None)
    if partial is None or (explanation is not None and explanation.is_found):
        return explanation
    if single:
        return _explained(partial.hypothesis) if partial.remainder <= divergence.limit else explanation
    divergence.runs.restart()
    both, _ = _try_suspects(divergence, case, partial)
    if both is not None and both.is_found:
        return both
    return _explained(partial.hypothesis) if partial.remainder <= divergence.limit else explanation


def _explained(hypothesis: "Hypothesis") -> Explanation:
    return Explanation(cause=hypothesis.cause, fix=hypothesis.fix, keras=hypothesis.keras)


def _try_suspects(
    divergence: Divergence, case: "Case", assumed: _Trial | None
) -> tuple[Explanation | None, _Trial | None]:
    """Return (explanation, None) for the first suspect (known kind of mistake) that explains the whole difference.

    If no suspect does, return (None, trial) for the rerun of torch that came closest to Keras, if it came much
    closer; else (None, None).

    Args:
        divergence: The point where the models differ.
        case: The facts about this point that the suspects use.
        assumed: The rerun with the first cause, in the search for a second cause; None in the search for the first.
    """
    from keras3conv.validators.diagnosis.suspects import SUSPECTS

    partial: _Trial | None = None
    for tried, suspect in enumerate(SUSPECTS):
        closer = []
        for trial in _trials(divergence, list(suspect.hypotheses(case)), assumed):
            if trial.is_closer:
                closer.append(trial)
            if divergence.runs.are_used_up:
                return _stopped(divergence.runs, tried, len(SUSPECTS)), partial
        if not closer:
            continue
        best = min(closer, key=lambda trial: (not trial.explains, trial.after))
        if best.explains:
            return _explained(best.hypothesis), None
        # The suspects are in order, the most specific first: a later one must come clearly closer.
        if best.is_much_closer and (partial is None or CLOSER * best.after < partial.after):
            partial = best
    return None, partial


def _trials(divergence: Divergence, hypotheses: "list[Hypothesis]", assumed: _Trial | None) -> Iterator[_Trial]:
    """Yield a rerun of torch for each hypothesis, then up to two reruns for each cause that has several hypotheses.

    Several operations may have the same cause, such as another epsilon in every normalisation. The first of the two
    reruns changes all of these operations. The second changes only those whose own rerun was closer to Keras.
    """
    by_cause: dict[str, list[Hypothesis]] = {}
    helpful: dict[str, list[Hypothesis]] = {}
    for hypothesis in hypotheses:
        by_cause.setdefault(hypothesis.cause, []).append(hypothesis)
        trial = _trial(divergence, hypothesis, assumed)
        if trial is None:
            continue
        if trial.after < trial.before:
            helpful.setdefault(hypothesis.cause, []).append(hypothesis)
        yield trial
    for cause, alike in by_cause.items():
        helping = helpful.get(cause, [])
        for group in (alike, helping if len(helping) < len(alike) else []):
            merged = _merge_same_cause(group)
            trial = None if merged is None else _trial(divergence, merged, assumed)
            if trial is not None:
                yield trial


def _trial(divergence: Divergence, hypothesis: "Hypothesis", assumed: _Trial | None) -> _Trial | None:
    """Rerun torch with the change of a hypothesis, and return how close the result is to Keras; None if torch raises.

    Args:
        divergence: The point where the models differ.
        hypothesis: The hypothesis.
        assumed: The rerun with the first cause, whose change is made as well; None in the search for the first cause.
    """
    before = largest_difference(divergence.torch_value, divergence.keras_value)
    if assumed is not None:
        combined = _combine(assumed.hypothesis, hypothesis)
        if combined is None:
            return None
        hypothesis, before = combined, assumed.after
    predicted = divergence.rerun(hypothesis.changes, hypothesis.tensors)
    if predicted is None or predicted.shape != divergence.keras_value.shape:
        return None
    after = largest_difference(predicted, divergence.keras_value)
    explains = CLOSER * after <= before and _is_within_rounding(divergence, hypothesis, predicted)
    is_comparable = divergence.float64 and np.isfinite(after)
    remainder = compare(divergence.keras_value, predicted).max_rel if is_comparable else float("inf")
    return _Trial(hypothesis, before, after, explains, remainder)


def _is_within_rounding(divergence: Divergence, hypothesis: "Hypothesis", predicted: Array) -> bool:
    """Return whether the value that a hypothesis predicts equals Keras' value within the limit of the failed proof."""
    if divergence.float64:
        diff = compare(divergence.keras_value, predicted)
        return diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0
    truth = divergence.rerun(hypothesis.changes, hypothesis.tensors, float64=True)
    return truth is not None and judge(divergence.keras_value, predicted, truth).passed


def _merge_same_cause(alike: "list[Hypothesis]") -> "Hypothesis | None":
    """Merge hypotheses with the same cause that change different operations; None for fewer than two hypotheses."""
    from keras3conv.validators.diagnosis.suspects import Hypothesis

    changes: dict[Key, Change] = {}
    for hypothesis in alike:
        changes |= hypothesis.changes
    if len(alike) < 2 or len(changes) != len(alike):
        return None
    return Hypothesis(
        cause=alike[0].cause,
        fix=_first_lines(hypothesis.fix for hypothesis in alike if hypothesis.fix),
        keras=_first_lines(hypothesis.keras for hypothesis in alike if hypothesis.keras),
        changes=changes,
    )


def _combine(first: "Hypothesis", second: "Hypothesis") -> "Hypothesis | None":
    """Return one hypothesis with the causes and changes of two; None if both change the same operation or tensor."""
    from keras3conv.validators.diagnosis.suspects import Hypothesis

    if first.changes.keys() & second.changes.keys() or first.tensors.keys() & second.tensors.keys():
        return None
    torch = in_framework(first.fix, "torch"), in_framework(second.fix, "torch")
    keras = in_framework(first.keras, "keras"), in_framework(second.keras, "keras")
    return Hypothesis(
        cause=f"{first.cause}; and {second.cause}",
        fix=_both_lines(torch, keras) if first.fix or second.fix else "",
        keras=_both_lines(keras, torch) if first.keras or second.keras else "",
        changes={**first.changes, **second.changes},
        tensors={**first.tensors, **second.tensors},
    )


def _both_lines(lines: tuple[str, str], others: tuple[str, str]) -> str:
    """Return the lines of two causes for one framework; a cause that has none there keeps that of the other."""
    return "\n".join(line or other for line, other in zip(lines, others, strict=True))


def _first_lines(fixes: Iterable[str]) -> str:
    """Return the first few lines of code, joined, and a comment for the others, such as "# and in 3 more places"."""
    lines = list(dict.fromkeys(fixes))
    shown = lines[:_LINES_SHOWN]
    if len(lines) > _LINES_SHOWN:
        shown.append(f"# and in {len(lines) - _LINES_SHOWN} more places")
    return "\n".join(shown)


def _stopped(runs: Runs, tried: int, number: int) -> Explanation:
    made = count(runs.made, "run")
    cause = f"the search for the cause stopped after {made} of the module, with {tried} of {number} suspects tried"
    return Explanation(cause=cause, is_found=False)
