"""Report a submodule of a torch model that has no counterpart in Keras, with the source code of a rule to complete."""

from keras3conv.errors import Problem
from keras3conv.model.graph import MODULE_CALL, Node
from keras3conv.model.views import ModelView
from keras3conv.rules.rule import stub

_NO_LAYER = "; to register a rule for it, move it into a module of its own"
"""The advice for a problem in the model's own code, for which no rule can be registered."""


BRANCHES = (
    "its code decides by the values of a tensor (data-dependent: a branch, a loop or a size), which no converted model "
    "does: choose with torch.where(condition, a, b), make the condition a constant, or convert the parts on both sides "
    "of the branch alone"
)
"""The fact about a module with an `if` on data."""


def obstacle(view: ModelView, path: str, fact: str, tensor: str = "") -> Problem:
    """Return the problem that a submodule has no counterpart in Keras; its fix is a rule for the user to complete.

    A branch on data in the model's own code has no fix: the Keras layer of a rule would be the whole model.

    Args:
        view: The torch model.
        path: The path of the submodule; empty for the model's own code.
        fact: Why the submodule cannot be converted, as a sentence.
        tensor: The path of the tensor that the problem is about, if it is about one.
    """
    fact = fact.removesuffix(_NO_LAYER)
    kind = next((layer.kind for layer in view.layers if path and layer.path == path), "")
    if BRANCHES in fact and not kind:
        return Problem(torch=tensor or path or view.name, fact=fact)
    roles = [one.path.removeprefix(f"{path}.") for one in view.tensors() if one.path.startswith(f"{path}.")]
    rule = stub(kind or "my_package.MyModule", roles if kind else (), "torch")
    return Problem(torch=tensor or path or view.name, fact=fact if kind else f"{fact}{_NO_LAYER}", fixes=(rule,))


def call_problem(view: ModelView, node: Node, fact: str) -> Problem:
    """Return the problem that a call in the graph of a torch model cannot be converted.

    The problem proposes a rule for the user to complete, unless the call is of a module that has a rule of the user.

    Args:
        view: The torch model.
        node: The call.
        fact: Why it cannot be converted, as a sentence.
    """
    if node.kind == MODULE_CALL:
        return Problem(torch=node.path, fact=fact)
    return obstacle(view, node.path, f"operator {node.kind}: {fact}")
