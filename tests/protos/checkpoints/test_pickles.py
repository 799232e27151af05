"""Our reader of pickles reads what Python's pickler writes, as long as it is plain."""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.checkpoints.allowed import ALLOWED, storage
from protos.checkpoints.pickles import EndsEarlyError, Machine
from protos.checkpoints.plain import plain_entries
from protos.errors import ModelFileError

PATH = Path("m.pth")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 31), 1 << 32)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
KEYS = st.text(max_size=5) | st.integers(-(1 << 62), 1 << 62) | st.tuples(st.integers(0, 9), st.text(max_size=2))
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.lists(inner, max_size=5).map(tuple)
    ),
    max_leaves=12,
)


def load(data: bytes) -> object:
    return Machine(data, PATH, ALLOWED, storage).run()


@given(value=PLAIN, protocol=st.integers(2, 5))
@settings(max_examples=150, deadline=None)
def test_plain_values_come_back(value, protocol):
    data = pickle.dumps(value, protocol)
    found = load(data)
    assert found == value
    assert repr(found) == repr(value)  # True is not 1, and 0.0 not −0.0


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_collections_and_numpys_numbers_come_back_as_plain_ones(protocol):
    shared = ["x"]
    value = {
        "ordered": OrderedDict(a=1, b=shared),
        "default": defaultdict(list, c=shared),
        "counter": Counter("aab"),
        "deque": deque([1, 2], 5),
        "set": {1},
        "frozen": frozenset({2}),
        "bytes": bytearray(b"ab"),
        "f8": np.float64(0.1),
        "u1": np.uint8(200),
        "swapped": np.arange(3, dtype=">i4"),
        "matrix": np.eye(2, dtype=np.float16),
    }
    assert plain_entries(load(pickle.dumps(value, protocol))) == {
        "ordered": {"a": 1, "b": ["x"]},
        "default": {"c": ["x"]},
        "counter": {"a": 2, "b": 1},
        "deque": [1, 2],
        "set": [1],
        "frozen": [2],
        "bytes": b"ab",
        "f8": 0.1,
        "u1": 200,
        "swapped": [0, 1, 2],
        "matrix": [[1, 0], [0, 1]],
    }


def test_python_2s_strings_are_text_or_else_bytes():
    assert load(b"\x80\x02}(U\x01aU\x02\xff\x00T\x01\x00\x00\x00b]u.") == {"a": b"\xff\x00", "b": []}


def test_settings_and_logs_are_allowed_and_left_out():
    """mmengine's log, as its checkpoints hold it, and a path as Lightning's do."""
    for name in ("mmengine.logging.history_buffer HistoryBuffer", "argparse Namespace"):
        module, kind = name.encode().split()
        data = b"\x80\x02}(U\x01ac" + module + b"\n" + kind + b"\n)\x81}U\x01xK\x01sbU\x01bK\x02u."
        assert plain_entries(load(data)) == {"b": 2}
    assert plain_entries(load(pickle.dumps({"a": Path("/x/y"), "b": 2}, 2))) == {"b": 2}


def test_the_text_protocol_is_refused():
    with pytest.raises(ModelFileError, match=r"its pickle uses operation 0x.+, which no checkpoint needs"):
        load(pickle.dumps([1.5, "a"], 0))


def test_a_pickle_cut_short_anywhere_ends_early():
    data = pickle.dumps({"a": [1, 2.5, "text", b"bytes", (1, 2, 3, 4)], "b": OrderedDict(c=1 << 40)}, 2)
    for length in range(len(data) - 1):
        with pytest.raises(EndsEarlyError):
            load(data[:length])
