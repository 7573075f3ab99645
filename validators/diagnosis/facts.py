"""Collect what is known about both sides at a point at which two models differ, for the suspects."""

from typing import TYPE_CHECKING

from keras3conv.frameworks.shared.recording import Recording
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.divergence import Divergence
from keras3conv.validators.running.subject import Subject
from keras3conv.validators.running.transferred import is_transferred
from keras3conv.validators.running.zero_paddings import zero_paddings

if TYPE_CHECKING:
    from keras3conv.frameworks.torch.calls import Operation
    from keras3conv.validators.diagnosis.suspects.base import Case, PlanFacts, Point


def case_of(
    subject: Subject,
    divergence: Divergence,
    point: "Point",
    before: "tuple[Operation, ...]",
    operations: "tuple[Operation, ...]",
    upstream: "tuple[Operation, ...]",
) -> "Case":
    """Return what is known about both sides at a point at which two models differ.

    Args:
        subject: The two models.
        divergence: The point, with the values of both sides.
        point: The layers at the point.
        before: The torch operations before the layer.
        operations: The torch operations to search.
        upstream: These operations, after the one whose result the first of them takes.
    """
    from keras3conv.validators.diagnosis.suspects.base import Case, KerasSide, TorchSide

    weights = divergence.stage.tensors or {}
    torch = TorchSide(
        value=divergence.torch_value,
        operations=operations,
        operations_before=before,
        upstream=upstream,
        classes={layer.path: layer.kind for layer in subject.torch_view.layers},
        flattened=divergence.flattened,
        tensor_shapes={tensor.path: tensor.shape for tensor in subject.torch_view.tensors()},
        read=lambda path: weights[path] if path in weights else subject.torch_view.read(path),
    )
    config = subject.keras_layers[point.keras_path].config if point.in_layer else None
    keras = KerasSide(
        value=divergence.keras_value,
        config=config or {},
        configs=tuple(layer.config for layer in subject.keras_view.layers if layer.config),
        masks=_masks(subject, divergence, point),
        without_masks=_without_masks(subject),
        zero_paddings=zero_paddings(subject, _keras_run(subject, divergence)),
    )
    plan = _plan_facts(subject, has_own_weights=divergence.stage.tensors is None)
    return Case(point=point, torch=torch, keras=keras, rerun=divergence.rerun, plan=plan)


def _plan_facts(subject: Subject, *, has_own_weights: bool) -> "PlanFacts":
    """Return what is known about the plan, and about the weights that a transfer by this plan writes.

    Args:
        subject: The two models.
        has_own_weights: Whether the models run with their own weights; False if the plan set the weights.
    """
    from keras3conv.validators.diagnosis.suspects.base import PlanFacts

    def is_changed(path: str) -> bool:
        pair = subject.plan.of(path)
        return has_own_weights and pair is not None and not is_transferred(subject, pair)

    def is_confirmed(path: str) -> bool:
        pair = subject.plan.of(path)
        return pair is not None and not pair.unconfirmed and pair.decided_by in _CONFIRMING

    def partner(path: str) -> str:
        pair = subject.plan.of(path)
        if pair is not None and pair.torch == path:
            return pair.keras
        # The tensors of a layer without a rule are paired one by one.
        inside = [pair.keras for pair in subject.plan.pairs if path and pair.torch.startswith(f"{path}.")]
        layers = {name.rpartition("/")[0] for name in inside}
        return layers.pop() if len(layers) == 1 else ""

    return PlanFacts(is_changed=is_changed, is_confirmed=is_confirmed, partner=partner)


_CONFIRMING = ("probe", "construction")
"""The kinds of evidence that exclude a wrong pair of layers: a run of both models, or that `convert` made one."""


def _keras_run(subject: Subject, divergence: Divergence) -> Recording:
    return subject.keras_run if divergence.stage.tensors is None else subject.keras_probe


def _masks(subject: Subject, divergence: Divergence, point: "Point") -> dict[str, Array]:
    """Return the masks in Keras that hide a time step, by the path of a layer that received the mask.

    If several layers received the same mask, it is listed only for the last of them.
    """
    received = _keras_run(subject, divergence).masks
    if point.in_layer and point.keras_path in received:
        received = {point.keras_path: received[point.keras_path]}
    last = {mask.tobytes(): (path, mask) for path, mask in received.items() if mask.ndim == 2 and not mask.all()}
    return dict(last.values())


def _without_masks(subject: Subject) -> str:
    """Return the line of code that removes the masks of the Keras model."""
    for layer in subject.keras_view.layers:
        if (layer.config or {}).get("mask_zero"):
            return f"mask_zero=False  # {layer.path}"
        if layer.kind.endswith(".Masking"):
            return f"# without {layer.path}, which masks steps"
    return ""
