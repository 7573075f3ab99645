"""Rename the layers whose names Keras 3 does not allow: a layer of Keras 2 may have "/" and "." in its name."""

import re
from collections.abc import Iterable

_FORBIDDEN = re.compile(r"[/.]")


def allowed_names(names: Iterable[str]) -> dict[str, str]:
    """Return, for every layer name, a name that Keras 3 allows; distinct names stay distinct.

    Example:
        >>> allowed_names(["stem/conv", "stem_conv", "dense"])
        {'stem/conv': 'stem_conv_', 'stem_conv': 'stem_conv', 'dense': 'dense'}
    """
    names = list(names)
    taken = {name for name in names if not _FORBIDDEN.search(name)}
    found: dict[str, str] = {}
    for name in names:
        allowed = _FORBIDDEN.sub("_", name)
        while allowed != name and allowed in taken:
            allowed += "_"
        taken.add(allowed)
        found[name] = allowed
    return found
