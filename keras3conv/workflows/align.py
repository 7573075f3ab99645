"""Implement `keras3conv.align`: pair layers by a run of both models (a probe) if possible, else by names and shapes."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from keras3conv.alignment.adapted import is_adapted
from keras3conv.alignment.binding import RULE
from keras3conv.alignment.located import named_for
from keras3conv.alignment.pair import Evidence
from keras3conv.alignment.plan import Alignment
from keras3conv.alignment.unfit_rules import unfit_rules
from keras3conv.errors import InputError, ModelError, message_of
from keras3conv.formats.torch import prefixes
from keras3conv.formats.torch.parts import vectors
from keras3conv.frameworks.adapter import Model, TorchFile
from keras3conv.frameworks.own_classes import require_classes
from keras3conv.frameworks.shared.inputs import Inputs, refuse_unprovable
from keras3conv.frameworks.sides import Sides, Views, with_live_keras
from keras3conv.frameworks.stored import view_in_parts
from keras3conv.planner.evidence.hints import Hints
from keras3conv.planner.plan import hinted
from keras3conv.planner.plan import plan as make_plan
from keras3conv.planner.probe.pairs import ProbeResult
from keras3conv.rules.library import without
from keras3conv.rules.registry import users_rules
from keras3conv.steps import step
from keras3conv.workflows.recorded import recorded_plan


def align(
    torch: Model,
    keras: Model,
    *,
    inputs: Any,
    keras_inputs: Any,
    hints: Hints,
    probe: bool | None,
    entry: str,
    keras_weights: str | Path | None = None,
) -> Alignment:
    """Return the plan (the pairs of tensors) for two models; the arguments are those of `keras3conv.align`."""
    given = Sides.of(torch, keras, entry=entry, keras_weights=keras_weights)
    opened, notes = given.opened()
    origin = opened.torch.origin_notes()
    if opened.torch.is_live or opened.keras.is_live:
        for rule in users_rules():
            require_classes(rule)
    if given.files() and not hints and not probe:
        recorded, remarks = recorded_plan(given, opened)
        if recorded is not None:
            return replace(recorded, notes=(*recorded.notes, *origin, *recorded.torch.notes))
        notes = (*notes, *remarks)
    sides = opened if probe is False else with_live_keras(opened)
    sides.build(inputs, keras_inputs)
    try:
        plan = align_sides(sides, sides.views(), inputs, keras_inputs, hints=hints, probe=probe, notes=notes)
        plan = replace(plan, notes=(*plan.notes, *origin, *plan.torch.notes, *_other_entries(sides, plan, entry)))
        if sides.keras is opened.keras:
            return plan
        file = opened.keras.view()
        return replace(named_for(plan, file), keras=file)
    except ModelError as error:
        fix = "" if "\nFix:" in message_of(error) else "\nFix:  k3c.align(module, model, probe=False)"
        raise ModelError(f"{error}{fix}") from error


def align_sides(
    sides: Sides,
    views: Views,
    inputs: Any,
    keras_inputs: Any,
    *,
    hints: Hints = None,
    probe: bool | None = None,
    notes: tuple[str, ...] = (),
) -> Alignment:
    """Return the plan for two models whose views (names, shapes, configurations) are known; see `keras3conv.align`.

    Torch may compute a weight from other tensors (weight norm). A Keras model that somebody wrote has this weight as
    one variable. A model that `convert` made computes it, too. So if the weight matches no Keras variable, the tensors
    that it is computed from are paired.

    For a probe, a rule of the user that fits no two layers is left out: the run shows how their tensors correspond.
    Without a run nothing does, and the tensors are problems of the plan.

    Args:
        sides: The two models.
        views: Their views.
        inputs: The inputs of the torch module, for a probe; None if the user gave none.
        keras_inputs: The inputs of the Keras model; None if the user gave none.
        hints: The pairs that the user named.
        probe: Whether to make a probe; None to make one if possible.
        notes: Remarks to keep in the plan.

    Raises:
        ModelError: A model cannot be run with the user's inputs. If it cannot be run with random inputs, the plan is
            made without a probe instead, and a note in the plan says so.
    """
    by_hint = {pair.rule for pair in hinted(*views, hints)}
    unfit = [one for one in unfit_rules(*views) if one.rule.name not in by_hint]
    make = partial(_aligned, sides, hints=hints, probe=probe, notes=notes)
    with without(one.rule.name for one in unfit):
        plan = make(views, inputs, keras_inputs)
        if any(tensor.is_computed for tensor in views[0].tensors()) and any(_faults(plan)):
            parts = view_in_parts(sides.torch)
            other = _with_constant_vectors(make((parts, views[1]), inputs, keras_inputs))
            plan = min(plan, other, key=_faults)
    return replace(plan, notes=(*(one.note for one in unfit), *plan.notes))


def _faults(plan: Alignment) -> tuple[int, bool, int, int]:
    """Return a sort key for alternative plans of the same two models; the best plan has the smallest key.

    The key is a tuple: the number of problems, whether the outputs differ, the number of computed weights (weight
    norm) that are paired by shape alone, and the number of unconfirmed pairs.
    """
    computed = {tensor.path for tensor in plan.torch.tensors() if tensor.is_computed}
    by_shape = [pair for pair in plan.pairs if pair.rule == RULE and pair.decided_by != "probe"]
    guessed = sum(path in computed for pair in by_shape for one in pair.weights for path in one.torch)
    return len(plan.problems()), bool(plan.difference), guessed, sum(pair.unconfirmed for pair in plan.pairs)


def _with_constant_vectors(plan: Alignment) -> Alignment:
    """Return a plan that ignores the unpaired vectors u and v of spectral norms.

    Torch changes them in training only, by a power iteration. A converted model has them as constants.
    """
    settled = {path for mapping in plan.mappings for path in mapping.torch} | {entry.path for entry in plan.ignored}
    for path in vectors(plan.torch):
        if path not in settled:
            plan = plan.ignore(path, "a vector of a spectral norm is a constant in Keras", side="torch")
    return plan


def _aligned(
    sides: Sides,
    views: Views,
    inputs: Any,
    keras_inputs: Any,
    *,
    hints: Hints,
    probe: bool | None,
    notes: tuple[str, ...],
) -> Alignment:
    """Return the plan for two models with these views; the arguments are those of `align_sides`."""
    attempt = _Probe(sides, views, {pair.keras: pair.torch for pair in hinted(*views, hints)})
    reason = attempt.obstacle(inputs, keras_inputs)
    runs = probe is not False and not reason
    given, refusal = sides.possible_inputs(views, inputs, keras_inputs, attempt if runs else None)
    reason = reason or refusal or ("" if runs else "probe=False")
    if probe and reason:
        raise InputError(f"probe=True needs to run both models, which is not possible: {reason}")
    if given is None or reason:
        return _without_probe(sides, views, given, hints, reason, notes)
    try:
        probed = attempt.result(given)
    except ModelError as error:
        if probe or inputs is not None or keras_inputs is not None:
            raise
        return _without_probe(sides, views, given, hints, f"with {given.note}, {_in_one_line(error)}", notes)
    with step("make the plan"):
        plan = make_plan(probed.torch, probed.keras, hints, probed=probed, notes=(given.note, *notes))
    if not plan.problems():
        return plan
    reason = "the probe found no complete plan"
    unproven = make_plan(probed.torch, probed.keras, hints, notes=(f"not confirmed: {reason}", given.note, *notes))
    return plan if unproven.problems() else _all_unconfirmed(unproven, reason)


class _Probe:
    """Probe two live models (run both with random weights, pair their layers) with the first inputs that they accept.

    Inputs are tried by probing with them, so the models are not run only to find out if they accept the inputs.

    Args:
        sides: The two models.
        views: Their views.
        hinted: The torch path from the user's hint, by Keras path.
    """

    def __init__(self, sides: Sides, views: Views, hinted: dict[str, str]) -> None:
        self._sides, self._views, self._hinted = sides, views, hinted
        self._outcome: ProbeResult | ModelError | None = None

    def obstacle(self, *inputs: Any) -> str:
        """Return the reason why the models cannot be probed; empty if they can.

        Args:
            *inputs: The user's inputs for the torch side and for the Keras side; None for those that were not given.
        """
        files = self._sides.files()
        if files:
            if self._sides.not_run:
                return self._sides.not_run
            names = {"torch": "torch", "keras": "Keras"}
            return "both sides are files" if len(files) > 1 else f"the {names[files[0].side]} side is a file"
        if not self._sides.can_run(self._views[1], *inputs):
            return "no inputs are given, and the Keras model has no input specification: give inputs=..."
        if any(map(is_adapted, self._views[1].layers)):
            reason = "the Keras model is quantized or adapted with LoRA"
            return f"{reason}, so its variables are not the weights that torch has"
        return ""

    def __call__(self, inputs: Inputs) -> bool:
        """Run the probe; return True if both models accept the inputs, also if the probe fails for another reason.

        The inputs are tried in a probe, not in a plain run: a probe replaces an output that differs, so that a later
        layer gets an input that it accepts.
        """
        outcome: ProbeResult | ModelError
        try:
            outcome = self._probe(inputs)
        except ModelError as failure:
            outcome = failure
        agrees = isinstance(outcome, ProbeResult) and not outcome.difference
        accepted = agrees or self._sides.accept(inputs)
        self._outcome = outcome if accepted else None
        return accepted

    def result(self, inputs: Inputs) -> ProbeResult:
        """Return the stored result of the last probe whose inputs both models accepted; else probe with these inputs.

        Raises:
            ModelError: The probe failed.
        """
        if isinstance(self._outcome, ModelError):
            raise self._outcome
        return self._outcome or self._probe(inputs)

    def _probe(self, inputs: Inputs) -> ProbeResult:
        from keras3conv.planner.probe import run as probing

        refuse_unprovable(inputs)
        with step("probe: run both models, pair their layers"):
            return probing.probe(self._sides.torch.source, self._sides.keras.source, self._views, inputs, self._hinted)


def _other_entries(sides: Sides, plan: Alignment, entry: str) -> Iterator[str]:
    """Yield a note for each prefix of tensor names whose tensors alone match the Keras model.

    A state dict may hold several models with prefixes such as "student." and "teacher.". Nothing is yielded if all
    tensors together match the Keras model.

    Args:
        sides: The two models.
        plan: The plan for all tensors of the file.
        entry: The name of the state dict or prefix that the user chose; then nothing is yielded.
    """
    if isinstance(sides.torch, TorchFile) and not entry and plan.problems():
        torch, keras = sides.views()
        for prefix in prefixes.prefixes(tensor.path for tensor in torch.tensors()):
            part = make_plan(prefixes.within(torch, prefix), keras)
            if part.pairs and not part.problems():
                yield f'the tensors under "{prefix}." alone fit the Keras model: entry="{prefix}" takes them'


def _all_unconfirmed(plan: Alignment, reason: str) -> Alignment:
    """Return a plan in which every pair is marked as not confirmed, for the given reason."""
    doubt = Evidence(kind="position", detail=reason)
    return replace(plan, pairs=tuple(replace(pair, evidence=(*pair.evidence, doubt)) for pair in plan.pairs))


def _without_probe(
    sides: Sides, views: Views, inputs: Inputs | None, hints: Hints, reason: str, origin: tuple[str, ...]
) -> Alignment:
    """Return a plan made without a probe: from names, shapes, and the call order of models that can be run.

    Args:
        sides: The two models.
        views: Their views.
        inputs: The inputs; None if there are none.
        hints: The pairs that the user named.
        reason: The reason why there is no probe, for a note in the plan.
        origin: Remarks for the plan, about the files of the models.
    """
    notes = [f"not probed: {reason}", *origin]
    if inputs is not None:
        traced = list(views)
        for place, trace in enumerate((sides.traced_torch, sides.traced_keras)):
            try:
                traced[place] = trace(views[place], inputs)
            except ModelError as error:
                note = _in_one_line(error)
                notes += [] if note in notes[0] else [note]
        views = traced[0], traced[1]
    with step("make the plan"), without(()):
        return make_plan(*views, hints, notes=tuple(notes))


def _in_one_line(error: ModelError) -> str:
    return " ".join(message_of(error).split())
