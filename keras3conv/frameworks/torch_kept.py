"""What a run of a torch module leaves in it beside its tensors, put back: a table that it kept, a count of its calls.

What a module keeps for its next call was made in the dtype of this one: a table of angles that is kept in a run in
float64 would meet float32 in the user's next run.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from keras3conv.frameworks.record import plain

_REGISTERED = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
"""Where a module has what belongs to it by name."""

_HOOKS = frozenset(name for name in vars(nn.Module()) if "hook" in name)


@contextmanager
def attributes_kept(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[list[str]]:
    """Puts back what is done to the attributes of modules, and to the lists and dicts that these are.

    Args:
        modules: All modules of a model, by path.

    Yields:
        A list that afterwards holds the paths of the attributes that had another value: a state.
    """
    before = [(path, child, dict(vars(child)), _contents(child)) for path, child in modules]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for path, child, attributes, contents in before:
            changed += [f"{path}.{name}" if path else name for name in _put_back(child, attributes)]
            for holder, content in contents:
                _fill(holder, content)


def _contents(child: nn.Module) -> list[tuple[Any, Any]]:
    """What a module registers, and the lists, dicts and sets among its attributes, each with a copy of it."""
    held = [value for name, value in vars(child).items() if type(value) in (dict, list, set) and name not in _HOOKS]
    return [(value, value.copy()) for value in held]


def _put_back(child: nn.Module, before: Mapping[str, Any]) -> list[str]:
    """Sets the attributes that were set meanwhile to what they were; returns those that had another value."""
    now, changed = vars(child), []
    for name in [name for name in now if name not in before]:
        del now[name]
    for name, old in before.items():
        new = now.get(name)
        if new is not old:
            now[name] = old
            if name != "training" and _differ(old, new):
                changed.append(name)
    return changed


def _differ(old: object, new: object) -> bool:
    """Whether an attribute that was replaced had another value; what is first made in a call is no state."""
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        return old.dtype == new.dtype and not torch.equal(old.detach(), new.detach())
    return old is not None and plain(old) and plain(new) and old != new


def _fill(holder: Any, content: Any) -> None:
    """Gives a list, a dict or a set its content back."""
    if isinstance(holder, list):
        if len(holder) != len(content) or any(one is not other for one, other in zip(holder, content, strict=True)):
            holder[:] = content
    elif isinstance(holder, set):
        if holder != content:
            holder.clear()
            holder.update(content)
    elif list(holder) != list(content) or any(holder[key] is not value for key, value in content.items()):
        holder.clear()
        holder.update(content)


__all__ = ["attributes_kept"]
