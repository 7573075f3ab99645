"""Prepare two models whose layer pairs are proven one at a time, because they do not fit in memory together."""

from collections.abc import Sequence
from pathlib import Path

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import InputError
from keras3conv.frameworks.adapter import ModelFile
from keras3conv.frameworks.sides import Sides
from keras3conv.frameworks.stored import view_without_values, with_stored_values
from keras3conv.planner.plan import plan as make_plan
from keras3conv.validators.local import REASON
from keras3conv.validators.running.options import Options
from keras3conv.validators.running.subject import Subject

NOT_PROBED = "not probed: the models are not run as a whole"


def local_subject(
    sides: Sides, files: Sequence[Path | None], plan: Alignment | None, options: Options, entry: str
) -> tuple[Subject, tuple[str, ...]]:
    """Return the `Subject` (models, plan and options) of a validation by layer pairs, and the notes for its report.

    Args:
        sides: The two live models. A model whose values are in a file may be without values (on the meta device).
        files: The file of the torch values and the file of the Keras values; None if the model has its values.
        plan: The plan (the pairs of tensors); by default the pairs follow from names and shapes.
        options: The proofs, and how strict they are.
        entry: The name of the state dict, if the torch file holds several.

    Raises:
        InputError: A side is a file: files do not contain the hyper-parameters of layers.
        ModelError: A file lacks tensors of the model.
    """
    views, planned = [], plan.torch if plan is not None else None
    for side, path in zip((sides.torch, sides.keras), (*files, None, None), strict=False):
        if isinstance(side, ModelFile):
            fix = f'Fix:  k3c.validate(module, model, local={{"{side.side}": "{side.source}"}})'
            raise InputError(
                f"local=True needs live models: the file {side.source} does not have the hyper-parameters of the "
                f"layers\n{fix}"
            )
        view = view_without_values(side, planned) if path else side.view(planned=planned)
        views.append(with_stored_values(view, path, entry=entry if side.side == "torch" else "") if path else view)
    torch, keras = views
    subject = Subject(
        plan=plan or make_plan(torch, keras, notes=(NOT_PROBED,)),
        outlines=(torch, keras),
        views=lambda: (torch, keras),
        torch=sides.torch.source,
        keras=sides.keras.source,
        skip_reason=REASON,
        options=options,
    )
    return subject, subject.plan.notes
