"""What a run of a torch module leaves in it beside its tensors, put back: a table that it kept, a count of its calls.

What a module keeps for its next call was made in the dtype of this one: a table of angles that is kept in a run in
float64 would meet float32 in the user's next run.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import is_
from typing import Any

import torch
from torch import nn

from keras3conv.frameworks.shared.recording import plain

_OF_TORCH = frozenset(vars(nn.Module()))
"""The attributes that every module has: flags, hooks, and what it registers by name."""

_REGISTERED = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


@contextmanager
def attributes_kept(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[list[str]]:
    """Puts back the flags of modules, and what is done to their attributes and to the lists and dicts that these are.

    Args:
        modules: All modules of a model, by path.

    Yields:
        A list that afterwards holds the paths of the attributes that had another value: a state.
    """
    modules = list(modules)
    flags = [(child, child.training) for _, child in modules]
    before = [(path, child, dict(vars(child))) for path, child in modules if not _keeps_nothing(child)]
    contents = {id(holder): holder.copy() for _, child, _ in before for holder in _holders(child) if holder}
    changed: list[str] = []
    try:
        yield changed
    finally:
        for child, training in flags:
            if child.training != training:
                child.training = training
        for path, child, attributes in before:
            changed += [f"{path}.{name}" if path else name for name in _put_back(child, attributes)]
            for holder in _holders(child):
                _fill(holder, contents.get(id(holder), ()))


def _keeps_nothing(child: nn.Module) -> bool:
    """Whether this is one of torch's own to which nobody has added, but not one that lists its weights once more."""
    own = type(child).__module__.startswith("torch.nn.modules.") and not isinstance(child, nn.RNNBase)
    return own and not child._forward_hooks and not child._forward_pre_hooks


def _holders(child: nn.Module) -> Iterator[Any]:
    """What a module registers, and the lists, dicts and sets among its attributes."""
    attributes = vars(child)
    for name in _REGISTERED:
        yield attributes[name]
    for name in attributes.keys() - _OF_TORCH:
        if type(attributes[name]) in (dict, list, set):
            yield attributes[name]


def _put_back(child: nn.Module, before: Mapping[str, Any]) -> list[str]:
    """Sets the attributes that were set meanwhile to what they were; returns those that had another value."""
    now, changed = vars(child), []
    if len(now) == len(before) and all(map(is_, now.values(), before.values())):
        return []
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
    if len(holder) == len(content) and all(map(is_, _members(holder), _members(content))):
        return
    holder.clear()
    if isinstance(holder, list):
        holder.extend(content)
    else:
        holder.update(content)


def _members(holder: Any) -> Iterable[Any]:
    return holder.values() if isinstance(holder, dict) else holder


__all__ = ["attributes_kept"]
