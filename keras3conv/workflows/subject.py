"""Make the subject of the proofs: the two models, their inputs, and a plan if none is given."""

from dataclasses import replace
from typing import Any

import numpy as np

from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.frameworks.adapter import ModelFile
from keras3conv.frameworks.shared.inputs import refuse_unprovable
from keras3conv.frameworks.sides import Sides, Views
from keras3conv.model.views import Side
from keras3conv.model.wrappers import named_as
from keras3conv.report.values import FILE_CANNOT_RUN
from keras3conv.transforms import Axes
from keras3conv.validators.running.options import Options
from keras3conv.validators.running.subject import Subject


def _aligned(sides: Sides, views: Views, inputs: Any, keras_inputs: Any) -> Alignment:
    """Return a plan for two models; only here is the planner imported, because most certificates are given a plan."""
    from keras3conv.workflows.align import align_sides

    return align_sides(sides, views, inputs, keras_inputs)


def subject_of(
    sides: Sides,
    inputs: Any,
    keras_inputs: Any,
    plan: Alignment | None,
    options: Options,
    port: Side | None,
    origin: str,
) -> tuple[Subject, tuple[str, ...]]:
    """Return the `Subject` (models, plan and inputs) of the proofs, and notes for the report.

    Args:
        sides: The two models.
        inputs: The inputs of the torch module; None for random ones.
        keras_inputs: The inputs of the Keras model; None if they follow from those of the torch module.
        plan: The plan; None to make a plan.
        options: The proofs, and how strict they are.
        port: The side whose weights a transfer wrote; None if that is unknown.
        origin: The origin of inputs that the user did not give.
    """
    sides.build(inputs, keras_inputs)
    planned = plan.torch if plan is not None else None
    outlines = sides.views(described=False, planned=planned)
    if isinstance(sides.torch, ModelFile) or isinstance(sides.keras, ModelFile):
        files = " and the ".join(side.side for side in sides.files())
        reason = f"the {files} side {FILE_CANNOT_RUN}"
        views = sides.views(planned=planned)
        if plan is not None:
            outlines, views = (_named_as_planned(each, plan) for each in (outlines, views))
        if plan is None:
            plan = _with_rows_of_values(_aligned(sides, views, inputs, keras_inputs), views)
            views, outlines = sides.views(planned=plan.torch), sides.views(described=False, planned=plan.torch)
        return Subject(plan=plan, outlines=outlines, views=lambda: views, skip_reason=reason, options=options), ()
    given = sides.inputs(outlines, inputs, keras_inputs)
    refuse_unprovable(given)
    given = replace(given, note=origin or given.note)
    if plan is None:
        plan = _aligned(sides, sides.views(), inputs, keras_inputs)
        planned = plan.torch
        outlines = sides.views(described=False, planned=planned)
    subject = Subject(
        plan=plan,
        outlines=outlines,
        views=lambda: sides.views(planned=planned),
        torch=sides.torch.source,
        keras=sides.keras.source,
        inputs=given,
        options=options,
        port=port,
    )
    return subject, (given.note, *sides.torch.notes(), *sides.keras.notes())


def _named_as_planned(views: Views, plan: Alignment) -> Views:
    """Return the views of both sides, with the torch tensors named as in the plan.

    The names may differ by the prefix of a wrapper such as DataParallel: "module.conv.weight" and "conv.weight".
    """
    return named_as(views[0], plan.torch), views[1]


def _with_rows_of_values(plan: Alignment, views: Views) -> Alignment:
    """Return a plan in which the kernel rows after a Flatten are permuted only if the values on both sides need it.

    A plan from files can only guess if the rows are permuted. The permutation is removed from a kernel whose torch and
    Keras values are equal without it.

    Args:
        plan: The plan.
        views: The views of both sides, which have the values.
    """
    return replace(plan, pairs=tuple(_with_plain_rows(pair, views) for pair in plan.pairs))


def _with_plain_rows(pair: Pair, views: Views) -> Pair:
    if not any(evidence.kind == "unseen flatten" for evidence in pair.evidence):
        return pair
    plain = Axes("o i -> i o")
    weights = []
    for mapping in pair.weights:
        is_kernel = len(mapping.torch) == len(mapping.keras) == 1 and mapping.transform != plain
        torch = views[0].read(mapping.torch[0]) if is_kernel else np.zeros(())
        is_plain = torch.ndim == 2 and np.array_equal(plain((torch,))[0], views[1].read(mapping.keras[0]))
        weights.append(replace(mapping, transform=plain) if is_plain else mapping)
    if tuple(weights) == pair.weights:
        return pair
    seen = Evidence(kind="values", detail="the rows have the same order in both files")
    evidence = (*(entry for entry in pair.evidence if entry.kind != "unseen flatten"), seen)
    return replace(pair, weights=tuple(weights), evidence=evidence)
