"""Define the result of the search for the torch weights of one Keras layer: one of four outcomes.

Confirmed: the outputs prove the weights. Ambiguous: several torch layers return the same output. Forced: no torch layer
returns the same output, so the best one is kept without proof. Compensated: as forced, but the outputs of the whole
models prove the weights.
"""

from dataclasses import dataclass, replace

from keras3conv.numerics.fingerprint import EXACT
from keras3conv.planner.probe.option import Candidate


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of a Keras layer's output with the recorded torch output.

    Attributes:
        error: The largest difference, relative to the largest recorded value.
        limit: The largest error that counts as agreement.
        factor: The factor by which the recorded output was multiplied before the comparison.
        input_agrees: Whether the input of the Keras layer equals the recorded input of the torch layer.
    """

    error: float
    limit: float = EXACT
    factor: float = 1.0
    input_agrees: bool = True

    @property
    def agrees(self) -> bool:
        """True if the outputs of the Keras layer and of torch are equal up to rounding."""
        return self.error <= self.limit


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """The outcome "confirmed": the outputs prove that the chosen torch weights are right.

    Attributes:
        comparison: The comparison of the layer's output with torch; None for a single variable, which has no output.
        confirmed_by: The later layer whose output excludes the alternatives; empty if there were no alternatives.
    """

    comparison: Comparison | None
    confirmed_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Ambiguous:
    """The outcome "ambiguous": several torch weights give the right output, and only a later layer can decide.

    Attributes:
        comparison: The comparison of the layer's output with torch; None for a single variable, which has no output.
        alternatives: The other candidates that fit as well.
    """

    comparison: Comparison | None
    alternatives: tuple[Candidate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Forced:
    """The outcome "forced": no torch weights reproduce the recorded torch output, so the best are kept without proof.

    The Keras layer returns the recorded output, so that later layers get a right input.

    Attributes:
        comparison: The comparison of the layer's output with torch, for the weights of the best candidate.
        alternatives: The candidates that ranked next.
        hidden_tensors: The torch tensors that the layer's input depends on, as an integer with one bit per tensor.
            Because the layer returns the recorded output, later layers do not depend on the values of these tensors
            and prove nothing about them.
    """

    comparison: Comparison
    alternatives: tuple[Candidate, ...] = ()
    hidden_tensors: int = 0


@dataclass(frozen=True, kw_only=True)
class Compensated:
    """The outcome "compensated": the layer's output differs from torch, but the outputs of the whole models are equal.

    The layers around it compensate the difference: Keras crops after the layer what torch crops inside it.

    Attributes:
        comparison: The comparison of the layer's output with torch.
    """

    comparison: Comparison


Outcome = Confirmed | Ambiguous | Forced | Compensated


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The candidate that the probe chose for a Keras layer or for a single variable.

    Attributes:
        path: The path of the Keras layer or variable.
        candidate: The candidate from which its values are computed.
        outcome: The result of the comparison with torch.
        open_calls: The calls of containers (layers that contain layers) that were running when the choice was made, as
            numbers, the outermost first.
    """

    path: str
    candidate: Candidate
    outcome: Outcome
    open_calls: tuple[int, ...] = ()

    @property
    def alternatives(self) -> tuple[Candidate, ...]:
        """The other torch weights that may be the right ones for this Keras layer."""
        return () if isinstance(self.outcome, Confirmed | Compensated) else self.outcome.alternatives

    @property
    def confirmed_by(self) -> str:
        """The path of the later layer that proved the choice of torch weights; empty if there is no such layer."""
        return self.outcome.confirmed_by if isinstance(self.outcome, Confirmed) else ""

    @property
    def replaces_output(self) -> bool:
        """True if the Keras layer returns the recorded torch output instead of its own."""
        return self.outcome.comparison is not None and not self.outcome.comparison.agrees

    def confirm(self, later_layer: str) -> "Choice":
        """Return a copy of the choice with the outcome `Confirmed`, proven by a later layer.

        Args:
            later_layer: The path of the layer whose output excludes the alternatives.
        """
        return replace(self, outcome=Confirmed(comparison=self.outcome.comparison, confirmed_by=later_layer))

    def with_alternatives(self, alternatives: tuple[Candidate, ...]) -> "Choice":
        """Return a copy of the choice in which the alternatives are replaced by others.

        Without alternatives, an ambiguous choice becomes confirmed, if its output was compared with torch.
        """
        if isinstance(self.outcome, Forced):
            return replace(self, outcome=replace(self.outcome, alternatives=alternatives))
        return replace(self, outcome=judge(self.outcome.comparison, alternatives))


def judge(comparison: Comparison | None, alternatives: tuple[Candidate, ...]) -> Confirmed | Ambiguous:
    """Return `Confirmed` if there are no alternatives and the output was compared with torch, else `Ambiguous`."""
    if comparison is None or alternatives:
        return Ambiguous(comparison=comparison, alternatives=alternatives)
    return Confirmed(comparison=comparison)
