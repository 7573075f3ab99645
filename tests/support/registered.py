"""Take back the rules that a test registers."""

from collections.abc import Callable

from keras3conv.rules import library, registry


def keep_rules() -> Callable[[], None]:
    """Return a function that takes back all rules registered after this call."""
    library.list_rules()  # the rules of the library are registered on first use: they are none of those taken back
    before = dict(registry.registered)

    def take_back() -> None:
        registry.registered.clear()
        registry.registered.update(before)
        registry.ranked.cache_clear()

    return take_back
