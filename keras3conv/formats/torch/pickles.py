"""Parse the pickle in a torch checkpoint without executing it.

A pickle is a program for a stack machine. Python's `pickle` module imports classes and calls them. This parser only
builds plain containers, and knows the few calls that describe a tensor (`calls.call`). Every other object
becomes a `Placeholder`. Dict keys are numbers or text, and sets become lists, so that no hash of an object in the file
can take long.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, quoted
from keras3conv.formats.torch import calls, objects
from keras3conv.formats.torch.objects import OddKey, OddTensor, Placeholder, Storage, StoredTensor
from keras3conv.messages import with_article

MAX_PICKLE = 256 << 20
"""The maximum size of a pickle in bytes; a checkpoint with 200,000 tensors has about 50 MiB."""

_MAX_STEPS = 20_000_000
_FREE_CONTAINERS = 1000
_BYTES_PER_CONTAINER = 4
"""The bytes of a pickle for which one more list, dict or tuple is allowed, beyond `_FREE_CONTAINERS`."""

_MAX_KEY = 1 << 62
_MARK = object()


def parse(data: bytes, where: str, start: int = 0, storages: list[Storage] | None = None) -> tuple[Any, int]:
    """Return the object that a pickle describes, and the position after the pickle.

    Args:
        data: The bytes that contain the pickle.
        where: The name of the file for messages.
        start: The position of the pickle.
        storages: A list to which every storage is added that the pickle refers to.

    Raises:
        MalformedCheckpoint: The bytes are not a pickle of the kind that `torch.save` writes.
        UnsafeCheckpoint: The pickle names a function that no checkpoint needs.
        BudgetExceeded: The pickle has too many instructions.
    """
    return _Machine(data, where, start, storages).run()


class _Machine:
    """The stack machine that executes one pickle without calling anything in it."""

    def __init__(self, data: bytes, where: str, start: int, storages: list[Storage] | None) -> None:
        self.data, self.where, self.position = data, where, start
        self.storages = [] if storages is None else storages
        self.containers = _FREE_CONTAINERS + len(data) // _BYTES_PER_CONTAINER
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self) -> tuple[Any, int]:
        data, steps = self.data, 0
        try:
            while data[self.position] != 0x2E:  # STOP
                step = _STEPS.get(data[self.position])
                if step is None:
                    raise self.malformed(f"the unknown pickle instruction {data[self.position]:#04x}")
                self.position += 1
                step(self)
                steps += 1
                if steps > _MAX_STEPS:
                    raise BudgetExceeded(f"{self.where}: the pickle has more than {_MAX_STEPS:,} instructions")
            value = self.stack.pop()
        except IndexError:
            raise self.malformed("the pickle ends too early, or takes a value from an empty stack") from None
        except UnicodeDecodeError as error:
            raise self.malformed(
                f"a string before byte {self.position} is not valid {error.encoding}; the file is damaged, so save it "
                "again"
            ) from None
        if value is _MARK:
            raise self.malformed("the pickle ends without a value")
        return value, self.position + 1

    def push_container(self, value: Any) -> None:
        self.stack.append(value)
        self.containers -= 1
        if self.containers < 0:
            raise BudgetExceeded(f"{self.where}: the pickle has too many lists, dicts and tuples for its size")

    def push_storage(self) -> None:
        self.storages.append(objects.storage(self.stack.pop(), self.where))
        self.stack.append(self.storages[-1])

    def malformed(self, fact: str) -> MalformedCheckpoint:
        return MalformedCheckpoint(f"{self.where}: the pickle is damaged at byte {self.position:,}: {fact}")

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise IndexError
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 1000)
        if end < 0:
            raise self.malformed("the name of a class has no end")
        text = self.data[self.position : end].decode("ascii")
        self.position = end + 1
        return text

    def popped(self, count: int) -> list[Any]:
        """Remove the topmost values from the stack, and return them."""
        values = [self.stack.pop() for _ in range(count)]
        return values[::-1]

    def marked(self) -> list[Any]:
        """Remove the values above the topmost MARK of the pickle from the stack, and return them."""
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        values.reverse()
        return values

    def target(self, kind: type) -> Any:
        """Return the list or dict on top of the stack, to which an instruction adds items; None for a `Placeholder`.

        Raise `MalformedCheckpoint` if it is not of type `kind`.
        """
        found = self.stack[-1]
        if isinstance(found, Placeholder):
            return None
        if type(found) is not kind:
            raise self.malformed(
                f"items are added to {with_article(_kind(found))}, not to {with_article(kind.__name__)}"
            )
        return found

    def set_items(self, pairs: list[Any]) -> None:
        if len(pairs) % 2:
            raise self.malformed("a key of a dict has no value")
        target = self.target(dict)
        if target is not None:
            target.update((_key(key), value) for key, value in zip(pairs[::2], pairs[1::2], strict=True))

    def add_items(self, values: list[Any]) -> None:
        target = self.target(list)
        if target is not None:
            target.extend(values)

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def get(self, place: int) -> None:
        if place not in self.memo:
            raise self.malformed(f"the pickle refers to the memo entry {place}, which was not stored before")
        self.stack.append(self.memo[place])

    def call(self, make: Callable[[Any, Any, str], Any]) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        made = make(function, arguments, self.where)
        self.stack.append(made)
        self.copied += len(made) if isinstance(made, dict | list | bytes) else 0
        if self.copied > len(self.data):  # every item in a pickle has at least one byte
            raise BudgetExceeded(f"{self.where}: the pickle copies the same values too often")

    def build(self) -> None:
        self.stack.pop()  # the state of an object: attributes, which are not tensors of a state dict
        if not isinstance(self.stack[-1], dict | Placeholder | OddTensor):
            raise self.malformed(f"attributes are set on {with_article(_kind(self.stack[-1]))}, which has none")

    def new_with_keywords(self) -> None:
        self.stack.pop()
        self.call(calls.create)

    def name(self, module: Any, name: Any) -> None:
        self.stack.append(objects.named(module, name, self.where))

    def stack_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def dictionary(self, pairs: list[Any]) -> None:
        self.push_container({})
        self.set_items(pairs)


def _kind(value: Any) -> str:
    return "tensor" if isinstance(value, StoredTensor) else type(value).__name__


def _key(value: Any) -> Any:
    is_plain = type(value) is str or value is None or type(value) is bool
    if is_plain or (type(value) is int and abs(value) < _MAX_KEY):
        return value
    return OddKey(quoted(value) if isinstance(value, bytes | float | int) else _kind(value))


_Step = Callable[[_Machine], object]
"""A function that executes a pickle instruction."""

_UTF_8 = partial(str, encoding="utf-8", errors="surrogatepass")
_LATIN_1 = partial(str, encoding="latin-1")  # the texts of Python 2 have one byte per character
_SIGNED = partial(int.from_bytes, byteorder="little", signed=True)


def _push(read: Callable[[_Machine], Any]) -> _Step:
    return lambda machine: machine.stack.append(read(machine))


def _container(read: Callable[[_Machine], Any]) -> _Step:
    return lambda machine: machine.push_container(read(machine))


def _sized(size: int, convert: Callable[[bytes], Any]) -> _Step:
    """Return the function that executes a pickle instruction with a value whose length is stored before it.

    Args:
        size: The number of bytes that store the length.
        convert: A function that returns the value for its bytes.
    """
    return _push(lambda machine: convert(machine.take(machine.number(size))))


_STEPS: dict[int, _Step] = {
    ord(code): step
    for code, step in {
        "\x80": lambda machine: machine.take(1),  # PROTO
        "\x95": lambda machine: machine.take(8),  # FRAME
        "(": _push(lambda _: _MARK),
        "0": lambda machine: machine.stack.pop(),  # POP
        "1": lambda machine: machine.marked(),  # POP_MARK
        "N": _push(lambda _: None),
        "\x88": _push(lambda _: True),
        "\x89": _push(lambda _: False),
        "K": _push(lambda machine: machine.number(1)),
        "M": _push(lambda machine: machine.number(2)),
        "J": _push(lambda machine: _SIGNED(machine.take(4))),
        "\x8a": _sized(1, _SIGNED),
        "\x8b": _sized(4, _SIGNED),
        "G": _push(lambda machine: struct.unpack(">d", machine.take(8))[0]),
        "X": _sized(4, _UTF_8),
        "\x8c": _sized(1, _UTF_8),
        "\x8d": _sized(8, _UTF_8),
        "U": _sized(1, _LATIN_1),
        "T": _sized(4, _LATIN_1),
        "C": _sized(1, bytes),
        "B": _sized(4, bytes),
        "\x8e": _sized(8, bytes),
        "\x96": _sized(8, bytes),  # BYTEARRAY8
        "]": _container(lambda _: []),
        "l": _container(lambda machine: machine.marked()),
        "a": lambda machine: machine.add_items(machine.popped(1)),
        "e": lambda machine: machine.add_items(machine.marked()),
        ")": _push(lambda _: ()),
        "t": _container(lambda machine: tuple(machine.marked())),
        "\x85": _container(lambda machine: tuple(machine.popped(1))),
        "\x86": _container(lambda machine: tuple(machine.popped(2))),
        "\x87": _container(lambda machine: tuple(machine.popped(3))),
        "}": _container(lambda _: {}),
        "d": lambda machine: machine.dictionary(machine.marked()),
        "s": lambda machine: machine.set_items(machine.popped(2)),
        "u": lambda machine: machine.set_items(machine.marked()),
        "\x8f": _container(lambda _: []),  # EMPTY_SET
        "\x90": lambda machine: machine.add_items(machine.marked()),
        "\x91": _container(lambda machine: machine.marked()),  # FROZENSET
        "c": lambda machine: machine.name(machine.line(), machine.line()),
        "\x93": _Machine.stack_name,
        "R": lambda machine: machine.call(calls.call),
        "\x81": lambda machine: machine.call(calls.create),
        "\x92": _Machine.new_with_keywords,
        "b": _Machine.build,
        "Q": _Machine.push_storage,
        "q": lambda machine: machine.put(machine.number(1)),
        "r": lambda machine: machine.put(machine.number(4)),
        "\x94": lambda machine: machine.put(len(machine.memo)),
        "h": lambda machine: machine.get(machine.number(1)),
        "j": lambda machine: machine.get(machine.number(4)),
    }.items()
}
"""For each pickle instruction that `torch.save` writes, the function that executes it; others are refused."""
