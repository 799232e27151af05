"""A reader of pickles that runs nothing.

Python's own unpickler calls what a pickle names, hashes whatever it is given as a key, lets a pickle set
attributes of whatever a name stands for, and makes room for any memo number. This one knows the operations that
checkpoints are written with, and for each the types that it may work on. A pickle can take neither more steps nor,
through copies of what it remembers, more memory than `STEPS` and `LIMIT` allow.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from protos.checkpoints.rawfile import damaged, shown
from protos.checkpoints.standins import Global, NumpyArray, NumpyType, Opaque, may_be_key
from protos.errors import ModelFileError

LIMIT = 64 << 20
"""Bytes of a pickle, and bytes that its calls may copy: weights are not in it."""

STEPS = 2_000_000
"""Operations; a checkpoint of 1,500 tensors takes about 50,000."""

_NAME = 300
_ELEMENT = 64
_STOP, _GET, _SMALL, _LONG_PUT = b".hKr"
_SHORT, _INT, _UNSIGNED, _LONG = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<Q")
_DOUBLE = struct.Struct(">d")
_WRONG = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError)


class EndsEarlyError(Exception):
    """The bytes ended before the pickle did."""


class Machine:
    """Reads one pickle.

    Args:
        data: Bytes that hold it.
        path: The file that they are from, for messages.
        allowed: Stand-ins by full name.
        persistent: Makes a stand-in out of a persistent id; raises TypeError if it can't.
        at: Where in `data` the pickle starts; after `run`, where it ended.

    """

    def __init__(
        self,
        data: bytes,
        path: Path,
        allowed: Mapping[str, Global],
        persistent: Callable[[object], object],
        at: int = 0,
    ) -> None:
        self.data = data
        self.at = at
        self._path = path
        self._allowed = allowed
        self._persistent = persistent
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._room = LIMIT

    def run(self) -> object:
        """Return what the pickle describes.

        Raises:
            EndsEarlyError: The bytes ended before it did.
            ModelFileError: It names what is not allowed, or makes no sense, or is too large.

        """
        data, at, stack, memo = self.data, self.at, self._stack, self._memo
        try:
            for _ in range(STEPS):
                operation = data[at]
                at += 1
                # Three quarters of a checkpoint's operations are these, so they are done without a call.
                if operation == _LONG_PUT:
                    memo[_UNSIGNED.unpack_from(data, at)[0]] = stack[-1]
                    at += 4
                elif operation == _SMALL:
                    stack.append(data[at])
                    at += 1
                elif operation == _GET:
                    stack.append(memo[data[at]])
                    at += 1
                else:
                    self.at = at
                    if operation == _STOP:
                        return stack.pop()
                    step = _STEPS[operation]
                    if step is None:
                        self._fail(f"its pickle uses operation 0x{operation:02x}, which no checkpoint needs")
                    step(self)
                    at, stack = self.at, self._stack
        except KeyError:
            self._fail("its pickle refers to something that it doesn't hold")
        except (IndexError, struct.error) as error:
            if max(at, self.at) >= len(data) - 8:
                raise EndsEarlyError from None
            raise damaged(self._path, "its pickle contradicts itself") from error
        raise damaged(self._path, f"its pickle takes more than {STEPS} steps")

    def _fail(self, why: str) -> NoReturn:
        raise damaged(self._path, why)

    # ------------------------------------------------------------ raw content

    def _take(self, count: int) -> bytes:
        start = self.at
        self.at = start + count
        if self.at > len(self.data):
            raise EndsEarlyError
        return self.data[start : self.at]

    def _number(self, form: struct.Struct) -> int:
        (found,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return found  # type: ignore[no-any-return]

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + _NAME)
        if end < 0:
            if len(self.data) - self.at < _NAME:
                raise EndsEarlyError
            self._fail("its pickle holds a name without end")
        return self._decode(self._take(end + 1 - self.at)[:-1])

    def _decode(self, raw: bytes) -> str:
        try:
            return str(raw, "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self._fail("its pickle holds text that is not UTF-8")

    def _text(self, length: int) -> None:
        self._stack.append(self._decode(self._take(length)))

    def _old_text(self, length: int) -> None:
        """Push a string of Python 2: text if it can be, else bytes."""
        raw = self._take(length)
        try:
            self._stack.append(raw.decode())
        except UnicodeDecodeError:
            self._stack.append(raw)

    # ------------------------------------------------------------- containers

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _marked(self) -> list[object]:
        found, self._stack = self._stack, self._marks.pop()
        return found

    def _tuple(self) -> None:
        found = self._marked()
        self._stack.append(tuple(found))

    def _list(self) -> None:
        found = self._marked()
        self._stack.append(found)

    def _tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            self._fail("its pickle contradicts itself")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _extend(self, items: list[object]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is not Opaque:
            self._fail("its pickle appends to what is no list")

    def _insert(self, items: list[object]) -> None:
        target = self._stack[-1]
        if type(target) is dict:
            keys = items[::2]
            for key in keys:
                if type(key) is not str and not may_be_key(key):
                    self._fail("its pickle holds a dictionary whose keys are no plain values")
            try:
                target.update(zip(keys, items[1::2], strict=True))
            except ValueError:
                self._fail("its pickle holds a key without a value")
        elif type(target) is not Opaque:
            self._fail("its pickle sets items of what is no dictionary")

    # ---------------------------------------------------------- names, calls

    def _name(self, module: object, name: object) -> None:
        found = self._allowed.get(f"{module}.{name}") if type(module) is str and type(name) is str else None
        if found is None:
            raise ModelFileError(
                f"{self._path} holds code: {shown(module)}.{shown(name)}; refused, and nothing of it was run",
                "a model needs none: if you trust whoever made it, ask for the weights alone, "
                "saved with torch.save(model.state_dict(), …)",
            )
        self._stack.append(found)

    def _stack_name(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _call(self) -> None:
        args, function = self._stack.pop(), self._stack[-1]
        if type(function) is not Global or function.make is None:
            self._fail("its pickle calls what can't be called")
        if type(args) is not tuple:
            self._fail(f"its pickle calls {function.name} without arguments")
        for arg in args:
            if type(arg) in (str, bytes):
                self._room -= len(arg)
            elif type(arg) in (list, tuple, dict):
                self._room -= _ELEMENT * len(arg)
        if self._room < 0:
            self._fail("its pickle grows beyond all measure")
        try:
            self._stack[-1] = function.make(*args)
        except _WRONG:
            self._fail(f"its pickle calls {function.name} with arguments that don't fit")

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is NumpyType or type(target) is NumpyArray:
            target.build(state)
        elif type(target) not in (dict, Opaque):  # attributes of those are not needed
            self._fail("its pickle sets attributes of what has none")

    def _persist(self) -> None:
        try:
            self._stack[-1] = self._persistent(self._stack[-1])
        except _WRONG:
            self._fail("its pickle names a storage that is none")


Step = Callable[[Machine], object]


def _push(value: object) -> Step:
    return lambda m: m._stack.append(value)


_TABLE: dict[bytes, Step] = {
    # protocol, frame
    b"\x80": lambda m: m._byte(),
    b"\x95": lambda m: m._number(_LONG),
    # constants and numbers
    b"N": _push(None),
    b"\x88": _push(True),
    b"\x89": _push(False),
    b"M": lambda m: m._stack.append(m._number(_SHORT)),
    b"J": lambda m: m._stack.append(m._number(_INT)),
    b"G": lambda m: m._stack.append(m._number(_DOUBLE)),
    b"\x8a": lambda m: m._stack.append(int.from_bytes(m._take(m._byte()), "little", signed=True)),
    # text, bytes
    b"X": lambda m: m._text(m._number(_UNSIGNED)),
    b"\x8c": lambda m: m._text(m._byte()),
    b"\x8d": lambda m: m._text(m._number(_LONG)),
    b"U": lambda m: m._old_text(m._byte()),
    b"T": lambda m: m._old_text(m._number(_UNSIGNED)),
    b"C": lambda m: m._stack.append(m._take(m._byte())),
    b"B": lambda m: m._stack.append(m._take(m._number(_UNSIGNED))),
    b"\x8e": lambda m: m._stack.append(m._take(m._number(_LONG))),
    b"\x96": lambda m: m._stack.append(m._take(m._number(_LONG))),
    # containers; a set is kept as a list
    b")": _push(()),
    b"]": lambda m: m._stack.append([]),
    b"}": lambda m: m._stack.append({}),
    b"\x8f": lambda m: m._stack.append([]),
    b"\x91": Machine._list,
    b"(": Machine._mark,
    b"t": Machine._tuple,
    b"\x85": lambda m: m._tuple_of(1),
    b"\x86": lambda m: m._tuple_of(2),
    b"\x87": lambda m: m._tuple_of(3),
    b"a": lambda m: m._extend([m._stack.pop()]),
    b"e": lambda m: m._extend(m._marked()),
    b"\x90": lambda m: m._extend(m._marked()),
    b"s": lambda m: m._insert([m._stack.pop(-2), m._stack.pop()]),
    b"u": lambda m: m._insert(m._marked()),
    b"0": lambda m: m._stack.pop(),
    b"1": lambda m: m._marked(),
    # memo
    b"j": lambda m: m._stack.append(m._memo[m._number(_UNSIGNED)]),
    b"q": lambda m: m._memo.__setitem__(m._byte(), m._stack[-1]),
    b"\x94": lambda m: m._memo.__setitem__(len(m._memo), m._stack[-1]),
    # names, calls, storages
    b"c": lambda m: m._name(m._line(), m._line()),
    b"\x93": Machine._stack_name,
    b"R": Machine._call,
    b"\x81": Machine._call,
    b"b": Machine._build,
    b"Q": Machine._persist,
}
_STEPS: list[Step | None] = [_TABLE.get(bytes([code])) for code in range(256)]
