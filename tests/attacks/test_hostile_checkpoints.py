"""Checkpoints made to harm: to run code, to fill memory or time, to read what lies outside of them.

All of them end in a clear refusal, fast and in little memory, and nothing that they name is run.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from protos.checkpoints import open_model, pickles
from protos.checkpoints.allowed import ALLOWED, storage
from protos.checkpoints.pickles import EndsEarlyError, Machine
from protos.checkpoints.saved import LEGACY
from protos.errors import ModelFileError

SECONDS, BYTES = 5.0, 100 << 20


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Fail a test that takes long."""
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that takes much memory. That is measured slowly, so fewer steps are allowed."""
    monkeypatch.setattr(pickles, "STEPS", 100_000)
    tracemalloc.start()
    yield
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < BYTES


def archive(path: Path, data: bytes, members: dict[str, bytes] | None = None, **options: object) -> Path:
    """Write a checkpoint around a pickle."""
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in {"a/data.pkl": data, "a/version": b"3\n", **(members or {})}.items():
            file.writestr(name, content)
    return path


def legacy(path: Path, data: bytes) -> Path:
    parts = [LEGACY, pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), data, pickle.dumps([], 2)]
    path.write_bytes(b"".join(parts))
    return path


def refused(path: Path, said: str) -> ModelFileError:
    with pytest.raises(ModelFileError, match=said) as caught, open_model(path) as file:
        assert not dict(file.meta)
    assert path.name in caught.value.what
    assert caught.value.what.isprintable()
    assert caught.value.fix
    return caught.value


# ------------------------------------------------------------------- running code


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.flag}",)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("place", [lambda c: c, lambda c: {"state_dict": {"w": c}}, lambda c: {"meta": [c]}])
def test_a_command_is_not_run(tmp_path, form, place):
    flag = tmp_path / "was-run"
    content = place(Command(flag))
    torch.save(content, tmp_path / "m.pth", _use_new_zipfile_serialization=form == "zip")
    torch.load(tmp_path / "m.pth", weights_only=False)
    assert flag.exists()  # it would have been run
    flag.unlink()
    error = refused(tmp_path / "m.pth", r"m\.pth holds code: posix\.system; refused, and nothing of it was run")
    assert "torch.save(model.state_dict()" in error.fix
    assert not flag.exists()


NAMES = [
    "os system",
    "posix system",
    "builtins eval",
    "builtins exec",
    "builtins getattr",
    "builtins __import__",
    "__builtin__ apply",
    "subprocess Popen",
    "importlib import_module",
    "operator attrgetter",
    "functools partial",
    "torch load",
    "torch.hub load",
    "torch._utils __builtins__",
    "torch.storage _load_from_bytes",
    "numpy load",
    "numpy.core.multiarray fromfile",
    "collections OrderedDict.__reduce_ex__",
    "collections namedtuple",
    "pickle loads",
    "copyreg _reconstructor",
    "_codecs lookup",
    "protos.checkpoints.opening open_model",
    "mmengine.logging.history_buffer HistoryBuffer.__init__.__globals__",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["global", "stack"])
def test_a_name_that_is_not_on_the_list_is_refused_by_its_name(tmp_path, name, form):
    module, kind = name.split()
    if form == "global":
        data = f"c{module}\n{kind}\n".encode()
    else:
        data = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, kind)) + b"\x93"
    path = archive(tmp_path / "m.pth", b"\x80\x04" + data + b"(\x8c\x02idtR.")
    refused(path, f"holds code: {module}.{kind}; refused".replace(".", r"\."))


def test_a_name_can_not_draw_on_the_terminal(tmp_path):
    path = archive(tmp_path / "m.pth", b"\x80\x02cos\x1b[2J\x07\nsys\x1b]0;tem\n)R.")
    refused(path, r"holds code: 'os\\x1b\[2J\\x07'")


def names_called(data: bytes) -> set[str]:
    """Return what is called while a pickle is read, as the interpreter sees it."""
    called: set[str] = set()
    machine = Machine(data, Path("m"), ALLOWED, storage)

    def see(frame: object, event: str, argument: object) -> None:
        if event == "c_call":
            called.add(getattr(argument, "__qualname__", ""))
        elif event == "call":
            called.add(frame.f_code.co_filename)  # type: ignore[attr-defined]

    sys.setprofile(see)
    try:
        machine.run()
    finally:
        sys.setprofile(None)
    return called


def test_only_our_own_functions_are_called(tmp_path):
    torch.save({"s": {"w": torch.ones(2)}, "p": torch.nn.Parameter(torch.ones(1))}, tmp_path / "m.pth")
    with zipfile.ZipFile(tmp_path / "m.pth") as file:
        called = names_called(file.read("m/data.pkl"))
    files = {name for name in called if name.endswith(".py") and "checkpoints" not in name}
    assert not files
    assert not called & {"__import__", "import_module", "exec", "eval", "getattr", "setattr"}


@pytest.mark.parametrize(
    "operations",
    [
        b"ctorch\nTensor\n)R",  # a name that is on the list only as a name
        b"cbuiltins\nlist\n(K\x01tR",
        b"cbuiltins\nint\n(X\x02\x00\x00\x0010tR",
        b"ccollections\nOrderedDict\n]R",  # arguments that are no tuple
        b"ccollections\nOrderedDict\nNN\x87R",
        b"K\x01)R",  # calling a number
        b"X\x01\x00\x00\x00a)R",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"ctorch._tensor\n_rebuild_from_type_v2\n(c_codecs\nencode\nctorch\nTensor\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00latin1tNtR",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR",  # another encoding than bytes need
        b"ccollections\nOrderedDict\nNX\x01\x00\x00\x00aK\x01s\x86b",  # attributes of a name
        b"ctorch\nSize\n}X\x04\x00\x00\x00makeNsb",
        b"]}b",
        b"K\x01}b",
        b"K\x01K\x02a",  # appending to a number
        b"ctorch\nSize\nK\x02a",
        b"ctorch\nSize\nK\x01K\x02s",
        b"]K\x01K\x02s",
        b"}(K\x01u",  # a key without a value
        b"}]K\x01s",  # a list as a key
        b"}(K\x00((K\x01tttK\x01u",  # nested tuples as keys
        b"}\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01K\x01s",  # integers that may be chosen to collide
        b"numpy.core.multiarray\n",
        b"cnumpy\ndtype\n(X\x01\x00\x00\x00OtRp0\n",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00f8tRC\x01atR",
        b"X\x01\x00\x00\x00aQ",  # a storage that is none
        b")Q",
        b"(X\x07\x00\x00\x00storageX\x01\x00\x00\x00aX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ",
        b"(X\x06\x00\x00\x00modulectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ",
        b"0",  # nothing to pop
        b"t",
        b"u",
        b"\x87",
        b"\x90",
        b"R",
        b"h\x07",  # nothing remembered
        b"j\xff\xff\xff\xff",
        b"\x82\x01",  # names by number, instances, text numbers: no checkpoint has any
        b"\x83\x01\x00",
        b"\x84\x01\x00\x00\x00",
        b"(ios\nsystem\n",
        b"(cos\nsystem\no",
        b"\x8b\x01\x00\x00\x00\x01",
        b"I" + b"9" * 5000 + b"\n",
        b"P1\n",
        b"\x97",
        b"\xff",
    ],
)
def test_operations_that_make_no_sense_are_refused(tmp_path, operations):
    data = b"\x80\x02" + operations + b"."
    for path in (archive(tmp_path / "m.pth", data), legacy(tmp_path / "l.pth", data)):
        refused(path, "is damaged: |holds code: ")


def test_random_operations_never_end_in_another_error():
    codes = bytes(range(256))
    likely = b"}])(NK\x01X\x01\x00\x00\x00atueasRbQq\x00h\x00\x85\x86\x87\x81\x93\x94\x90\x91\x8f0"
    state = 1
    for _ in range(3000):
        data = bytearray(b"\x80\x02")
        for _ in range(30):
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            pool = likely if state >> 60 else codes
            data.append(pool[(state >> 33) % len(pool)])
        try:
            Machine(bytes(data), Path("m"), ALLOWED, storage).run()
        except (ModelFileError, EndsEarlyError):
            continue


# ------------------------------------------------------------ filling memory, time


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


BOMBS = {
    # declared lengths that aren't there
    "text": b"X\xff\xff\xff\xff",
    "long text": b"\x8d" + b"\xff" * 7 + b"\x7f",
    "bytes": b"\x8e" + b"\xff" * 7 + b"\x7f",
    "bytearray": b"\x96" + b"\xff" * 7 + b"\x7f",
    "bytes of 2 GiB": b"B\xff\xff\xff\x7f",
    # a place in the memo for which Python's unpickler would allocate 32 GiB
    "memo": b"Nr\xff\xff\xff\xff0",
    # more operations than any checkpoint has
    "steps": b"N0" * 100_000,
    "sets": b"\x8f" * 200_000,
    # small things that hold each other: copied, they would be more than the universe
    "copies": text(b"x" * 1_000_000) + b"q\x000" + b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR" * 200,
    "lists": b"](" + b"N" * 90_000 + b"eq\x000" + b"cbuiltins\nset\nh\x00\x85R" * 1000,
    "laughs as a key": b"}(N" + b"q\x00h\x00h\x00\x86" * 200 + b"Nu",
    "a tuple so deep that hashing it would overflow the stack": b"}(N" + b"\x85" * 90_000 + b"Nu",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused(tmp_path, in_memory, bomb):
    refused(archive(tmp_path / "m.pth", b"\x80\x04" + BOMBS[bomb] + b"."), "is damaged: its pickle")


@pytest.mark.parametrize("code", [b"\x85", b"]a", b"}"])
def test_deep_nesting_is_no_danger(tmp_path, code):
    if code == b"\x85":
        data = b"N" + code * 80_000
    elif code == b"}":
        data = b"}" + b"N}" * 50_000 + b"s" * 50_000
    else:
        data = b"]" * 80_000 + b"a" * 79_999
    refused(archive(tmp_path / "m.pth", b"\x80\x02" + data + b"."), "holds no state dict")
    meta = b"\x80\x02}(" + text(b"meta") + b"}(" + text(b"x") + data + b"u" + b"u."
    refused(archive(tmp_path / "m.pth", meta), "holds no state dict")


def test_laughs_in_the_notes_are_left_out(tmp_path):
    laughs = b"]q\x000" + b"h\x00h\x00\x86q\x000" * 60 + b"h\x00"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((" + text(b"storage") + b"ctorch\nFloatStorage\n"
    tensor += text(b"0") + text(b"cpu") + b"K\x01tQK\x00))\x89ccollections\nOrderedDict\n)RtR"
    data = b"\x80\x02}(" + text(b"meta") + b"}(" + text(b"good") + b"K\x07" + text(b"laughs") + laughs + b"u"
    data += text(b"model") + b"}" + text(b"w") + tensor + b"su."
    with open_model(archive(tmp_path / "m.pth", data, {"a/data/0": bytes(4)})) as file:
        assert file.meta == {"good": 7}
        assert file.tensor("w").shape == ()


def test_a_pickle_that_is_larger_than_any_is_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as file, file.open("a/data.pkl", "w") as member:
        for _ in range(65):
            member.write(bytes(1 << 20))
    refused(tmp_path / "m.pth", "which is more than any checkpoint's")


def test_a_legacy_file_whose_pickle_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "STEPS", 100_000)
    path = legacy(tmp_path / "m.pth", b"\x80\x02" + b"N" * 2_000_000)
    refused(path, "its pickle takes more than")
    path = legacy(tmp_path / "m.pth", b"\x80\x02B\xff\xff\xff\x7f" + bytes(80 << 20))
    refused(path, "its pickle is cut short")


# ----------------------------------------------------------- reading outside of it


def view(size: int, offset: object, shape: object, stride: object, key: str = "0") -> bytes:
    """Return the pickle of a checkpoint with one tensor, whatever its view is."""

    def number(value: object) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    saved = text(b"storage") + b"ctorch\nFloatStorage\n" + text(key.encode()) + text(b"cpu") + number(size)
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + saved + b"tQ" + number(offset) + number(shape) + number(stride)
    )
    return b"\x80\x02}" + text(b"w") + tensor + b"\x89ccollections\nOrderedDict\n)RtRs."


def one_tensor(path: Path, *args: object, held: int = 16, **options: object) -> Path:
    return archive(path, view(*args, **options), {"a/data/0": bytes(held), "a/data/secret": b"secret" * 100})


def test_such_a_checkpoint_is_read_if_it_is_right(tmp_path):
    with open_model(one_tensor(tmp_path / "m.pth", 4, 1, (3,), (1,))) as file:
        assert file.tensor("w").tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("size", "offset", "shape", "stride"),
    [
        (4, 1, (4,), (1,)),
        (4, 4, (1,), (1,)),
        (4, -1, (4,), (1,)),
        (4, 0, (4,), (-1,)),
        (4, 3, (4,), (-1,)),
        (4, 0, (-4,), (1,)),
        (4, 0, (-2, -2), (1, 1)),
        (4, 0, (2, 2), (3, 1)),
        (4, 0, (2,), (1 << 62,)),
        (4, 0, (1 << 62, 4), (0, 1)),
        (4, 1 << 62, (1,), (1,)),
        (4, 1 << 1000, (1,), (1,)),
        (4, 0, (1 << 1000,), (1,)),
        (4, 0, (1 << 40,), (0,)),
        (4, 0, (1 << 21, 1 << 21), (0, 0)),
        (4, 0, (2, 2), (1,)),
        (4, 0, (2,), (1, 1)),
        (4, 0, (1.0,), (1,)),
        (4, 0, (True,), (1,)),
        (4, 0, ("4",), (1,)),
        (4, 0, ((4,),), (1,)),
        (4, 0, (1,) * 65, (1,) * 65),
        (4, 0.0, (4,), (1,)),
        (4, None, (4,), (1,)),
        (4, 0, [4], [1]),
        (4, 0, None, None),
        (-4, 0, (4,), (1,)),
        (3, 0, (3,), (1,)),
        (5, 0, (5,), (1,)),
        (1 << 60, 0, (4,), (1,)),
        (1 << 62, 0, (1 << 62,), (1,)),
        (1 << 100, 0, (4,), (1,)),
        ("4", 0, (4,), (1,)),
    ],
)
def test_a_view_that_reaches_outside_of_its_storage_is_refused(tmp_path, size, offset, shape, stride):
    refused(one_tensor(tmp_path / "m.pth", size, offset, shape, stride), "is damaged: ")


@pytest.mark.parametrize(
    "key", ["1", "", "../data.pkl", "../../../etc/passwd", "/etc/passwd", "0/../secret", "\0", "x" * 9999]
)
def test_a_storage_elsewhere_is_refused(tmp_path, key):
    refused(one_tensor(tmp_path / "m.pth", 4, 0, (4,), (1,), key=key), "is damaged: .*is missing")


@pytest.mark.parametrize("name", ["../evil", "/etc/cron.d/evil", "a/../../evil", "..", "a\\..\\evil"])
def test_members_that_would_lie_outside_are_refused(tmp_path, name):
    path = archive(tmp_path / "m.pth", view(4, 0, (4,), (1,)), {"a/data/0": bytes(16), name: b"x"})
    refused(path, "holds a file that would lie outside of it")


# --------------------------------------------------------------- hostile archives


def test_compressed_content_is_not_unpacked(tmp_path):
    bomb = view(1 << 28, 0, (1 << 28,), (1,))
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as file:
        file.writestr("a/data.pkl", bomb)
        with file.open(zipfile.ZipInfo("a/data/0"), "w") as member:
            member.write(bytes(1 << 10))
        info = zipfile.ZipInfo("a/data/1")
        info.compress_type = zipfile.ZIP_DEFLATED
        file.writestr(info, bytes(1 << 25))
    refused(tmp_path / "m.pth", "has 1024 bytes, its pickle says 1073741824")
    path = archive(tmp_path / "z.pth", b"\x80\x02N." + bytes(1 << 24), compression=zipfile.ZIP_DEFLATED)
    refused(path, "data.pkl is compressed or encrypted")
    path = archive(tmp_path / "b.pth", view(1 << 22, 0, (1 << 22,), (1,)))
    with zipfile.ZipFile(path, "a", compression=zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data/0", bytes(4 << 22))
    assert path.stat().st_size < 1 << 20
    refused(path, "is damaged: a/data/0 has|data/0 is compressed or encrypted")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["a/data.pkl", "a/data/0"])
def test_a_member_that_is_there_twice_is_refused(tmp_path, name):
    path = archive(tmp_path / "m.pth", view(4, 0, (4,), (1,)), {"a/data/0": bytes(16)})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"another")
    refused(path, "holds .* twice")


def test_two_checkpoints_in_one_archive_are_refused(tmp_path):
    refused(archive(tmp_path / "m.pth", b"\x80\x02}.", {"b/data.pkl": b"\x80\x02}."}), "no torch checkpoint")


def test_another_byte_order_is_refused(tmp_path):
    path = archive(tmp_path / "m.pth", view(4, 0, (4,), (1,)), {"a/data/0": bytes(16), "a/byteorder": b"big"})
    refused(path, "machine of the other byte order")
    raw = legacy(tmp_path / "l.pth", b"\x80\x02}.").read_bytes()
    little = pickle.dumps({"little_endian": True}, 2)
    (tmp_path / "l.pth").write_bytes(raw.replace(little, pickle.dumps({"little_endian": False}, 2)))
    refused(tmp_path / "l.pth", "machine of the other byte order")


def entries(raw: bytes) -> list[int]:
    """Return where the directory's entries start."""
    found, at = [], raw.find(b"PK\x01\x02")
    while at >= 0:
        found.append(at)
        at = raw.find(b"PK\x01\x02", at + 1)
    return found


def patched(path: Path, at: int, form: str, value: int) -> None:
    raw = bytearray(path.read_bytes())
    struct.pack_into(form, raw, at, value)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("entry", "field", "value"),
    [
        (2, 42, 0),  # data/0 where data.pkl is
        (1, 42, 5),  # into the middle of data.pkl
        (2, 42, 1 << 31),  # after the end
        (2, 24, 1 << 31),  # other sizes
        (2, 20, 1 << 31),
        (0, 24, 1 << 20),
        (2, 28, 9999),  # lengths of name, extra field, comment
        (2, 30, 9999),
        (2, 32, 9999),
        (2, 34, 3),  # on another disk
        (2, 24, 0xFFFFFFFF),  # a large number that isn't there
        (2, 42, 0xFFFFFFFF),
    ],
)
def test_a_directory_that_lies_is_refused(tmp_path, entry, field, value):
    path = archive(tmp_path / "m.pth", view(4, 0, (4,), (1,)), {"a/data/0": bytes(16)})
    form = "<H" if field in (28, 30, 32, 34) else "<I"
    patched(path, entries(path.read_bytes())[entry] + field, form, value)
    refused(path, "is damaged: |is compressed")


@pytest.mark.parametrize(
    ("field", "form", "value"),
    [
        (4, "<H", 1),
        (6, "<H", 1),
        (8, "<H", 2),
        (10, "<H", 9),
        (12, "<I", 10),
        (16, "<I", 3),
        (12, "<I", 1 << 31),
        (20, "<H", 5),
    ],
)
def test_an_end_that_lies_is_refused(tmp_path, field, form, value):
    path = archive(tmp_path / "m.pth", view(4, 0, (4,), (1,)), {"a/data/0": bytes(16)})
    patched(path, path.read_bytes().rfind(b"PK\x05\x06") + field, form, value)
    refused(path, "is damaged: ")


@pytest.mark.parametrize("field", [4, 16, 20, 24, 32, 40, 48])
def test_a_large_end_that_lies_is_refused(tmp_path, field):
    torch.save({"w": torch.ones(4)}, tmp_path / "m.pth")  # torch always writes one
    patched(tmp_path / "m.pth", (tmp_path / "m.pth").read_bytes().rfind(b"PK\x06\x06") + field, "<I", 77)
    refused(tmp_path / "m.pth", "is damaged: ")


@pytest.mark.parametrize("value", [0, 1, 1 << 20, 1 << 63, (1 << 64) - 1])
def test_a_large_end_that_is_elsewhere_is_refused(tmp_path, value):
    torch.save({"w": torch.ones(4)}, tmp_path / "m.pth")
    patched(tmp_path / "m.pth", (tmp_path / "m.pth").read_bytes().rfind(b"PK\x06\x07") + 8, "<Q", value)
    refused(tmp_path / "m.pth", "is damaged: the two parts of its end don't meet")


@pytest.mark.parametrize(("field", "value"), [(0, 0), (6, 1), (8, 8), (26, 3), (28, 60000), (30, 0x41414141)])
def test_a_members_own_header_that_lies_is_refused(tmp_path, field, value):
    path = archive(tmp_path / "m.pth", view(4, 0, (4,), (1,)), {"a/data/0": bytes(16)})
    raw = path.read_bytes()
    at = struct.unpack_from("<I", raw, entries(raw)[2] + 42)[0]
    patched(path, at + field, "<I" if value > 60000 else "<H", value)
    refused(path, "is damaged: a/data/0")


# ------------------------------------------------------------ other hostile files


@pytest.mark.parametrize(
    "content",
    [
        {"w": "../model.safetensors"},
        {"w": "/etc/passwd.safetensors"},
        {"w": "a/b.safetensors"},
        {"w": "..\\b.safetensors"},
        {"w": ".."},
        {"w": ""},
        {"w": "a\0.safetensors"},
        {"w": "a\n.safetensors"},
    ],
)
def test_an_index_that_points_elsewhere_is_refused(tmp_path, content):
    folder = tmp_path / "model"
    folder.mkdir()
    from safetensors.torch import save_file

    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": content}))
    refused(folder / "model.safetensors.index.json", "names a file elsewhere: .*; refused")


def test_an_index_that_is_nested_deeply_or_huge_is_refused(tmp_path):
    path = tmp_path / "m.safetensors.index.json"
    path.write_text("[" * 200_000)
    refused(path, "no index of a model")
    with path.open("wb") as file:
        file.truncate(100 << 20)
    refused(path, "is too large for an index")


def test_nothing_of_a_hostile_file_is_unpacked_beside_it(tmp_path):
    folder = tmp_path / "box"
    folder.mkdir()
    path = archive(folder / "m.pth", view(4, 0, (4,), (1,)), {"a/data/0": bytes(16), "a/evil.py": b"import os"})
    with open_model(path) as file:
        file.verify()
    assert [p.name for p in tmp_path.rglob("*")] == ["box", "m.pth"]
