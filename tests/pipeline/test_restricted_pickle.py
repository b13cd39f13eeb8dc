"""Pickles are read as data: everything else in them is refused by name, and nothing in them runs."""

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.errors import InputError
from pipeline.data.readers.restricted_pickle import PickledArray, load_pickle, read_pickle

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.binary(max_size=5)
)
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4),
        st.frozensets(scalars, max_size=3),
        st.sets(scalars, max_size=3),
        st.builds(bytearray, st.binary(max_size=4)),
    ),
    max_leaves=12,
)
DTYPES = ["u1", "i2", "<u4", ">i8", "f2", "f4", ">f8", "?"]


@given(value=plain, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
@settings(max_examples=200, deadline=None)
def test_plain_data_round_trips(value: Any, protocol: int) -> None:
    assert load_pickle(pickle.dumps(value, protocol)) == value


@given(data=st.data(), protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), dtype=st.sampled_from(DTYPES))
@settings(max_examples=200, deadline=None)
def test_arrays_and_scalars_round_trip(data: st.DataObject, protocol: int, dtype: str) -> None:
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
    array = data.draw(arrays(np.dtype(dtype), shape))
    if data.draw(st.booleans()):
        array = np.asfortranarray(array)
    read = load_pickle(pickle.dumps([array, np.dtype(dtype).type(1)], protocol))
    assert isinstance(read[0], PickledArray)
    np.testing.assert_array_equal(np.asarray(read[0]), array)
    assert np.asarray(read[0]).dtype == array.dtype
    assert read[1] == 1


class Call:
    """An object that pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def hostile(mark: Path) -> dict[str, bytes]:
    """Return pickles that would write the file `mark` if anything in them ran, by the name that is refused."""
    touch = f"open({str(mark)!r}, 'w').close()"
    calls = {
        "posix.system": Call(os.system, f"touch {mark}"),
        "builtins.eval": Call(eval, touch.replace("open", "__import__('io').open")),
        "builtins.exec": Call(exec, touch),
        "io.open": Call(open, str(mark), "w"),
        "builtins.getattr": Call(getattr, mark, "touch"),
        "numpy.load": Call(np.load, str(mark)),
        "pathlib.": mark,
        "pickle.loads": Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {mark}"))),
    }
    files = {name: pickle.dumps({"a": [value]}) for name, value in calls.items()}
    for name, module in (("torch._utils._rebuild_tensor_v2", "torch._utils"), ("subprocess.Popen", "subprocess")):
        files[name] = f"c{module}\n{name.rsplit('.', 1)[1]}\n(S'touch {mark}'\ntR.".encode()
    files["importlib.import_module"] = b"\x80\x04\x8c\x09importlib\x8c\x0dimport_module\x93\x8c\x02os\x85R."
    files["builtins.set.__init__"] = b"\x80\x04\x8c\x08builtins\x8c\x0cset.__init__\x93."
    files["a persistent id"] = b"Pabc\n."
    files["numpy.core.multiarray.fromfile"] = b"cnumpy.core.multiarray\nfromfile\n(tR."
    files["an extension code"] = b"\x80\x02\x82\x01."
    return files


@pytest.mark.check(19)
def test_hostile_pickles_are_refused_and_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    pickles = hostile(mark)
    assert len(pickles) >= 12
    for name, data in pickles.items():
        with pytest.raises(InputError) as caught:
            load_pickle(data)
        if "." in name:
            assert name in str(caught.value)
            assert "not plain data" in str(caught.value)
    assert not mark.exists()
    # Python's unpickler does run the same bytes.
    pickle.loads(pickles["posix.system"])
    assert mark.exists()


# GLOBAL of a name that may be called, for hand-written pickles
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
DTYPE = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pickle.dumps(np.array([print], object)), "not plain data|unknown type|'O8'"),
        (pickle.dumps(np.array(["text"])), "'U4'"),
        (pickle.dumps(np.datetime64("2020")), "'M8'"),
        # An array of 16 numbers that has 3, and one of a shape that exceeds any memory.
        (RECONSTRUCT + b"(tR(I1\n(I16\nt" + DTYPE + b"I00\nS'abc'\ntb.", "shape"),
        (RECONSTRUCT + b"(tR(I1\n(L99999999999999999999L\nt" + DTYPE + b"I00\nS'abc'\ntb.", "shape"),
        (RECONSTRUCT + b"(tR(I1\n(I-3\nt" + DTYPE + b"I00\nS'abc'\ntb.", "shape"),
        (RECONSTRUCT + b"(tR}b.", "broken"),
        # Setting attributes or defaults of a name that may only be called.
        (RECONSTRUCT + b"}S'__call__'\nI1\nsb.", "a change to a name that it may only call"),
        (b"c__builtin__\nset\n(I5\ntR.", "broken"),
        (b"c__builtin__\nbytearray\n(I99999999999\ntR.", "unknown form"),
        (b"c__builtin__\nbytes\n(I99999999999\ntR.", "unknown form"),
        (b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.", "unknown form"),
        (b"cnumpy\nndarray\n(tR.", "an unknown way"),
        (b"", "broken"),
        (b"\x80\x04N", "broken"),
        (b"}" * 9 + b"t.", "broken"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc.", "broken"),
    ],
)
def test_broken_and_crafted_pickles_are_one_error(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_pickle(data)


def test_a_large_memo_number_costs_nothing() -> None:
    """LONG_BINPUT of 2**32 - 1, for which the unpickler in C allocates that many entries."""
    assert load_pickle(b"]r\xff\xff\xff\xff.") == []


def test_messages_never_show_endless_values() -> None:
    """A tuple of a tuple ... twice each: its text would have a length of 2**60."""
    nested = b"(t" + b"q\x00h\x00\x86" * 60
    for data in (
        RECONSTRUCT + b"(tR(I1\n" + nested + DTYPE + b"I00\nS''\ntb.",
        b"cnumpy\ndtype\n(" + nested + b"tR.",
        DTYPE + b"(I3\n" + nested + b"tb.",
        b"c_codecs\nencode\n(S'a'\n" + nested + b"tR.",
    ):
        with pytest.raises(InputError) as caught:
            load_pickle(data)
        assert len(str(caught.value)) < 400


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_pickles_only_fail(data: st.DataObject) -> None:
    value = ([np.arange(6, dtype=np.uint8)], {0: (0, 1), 1: None}, {"a"}, b"xyz", "text")
    damaged = bytearray(pickle.dumps(value, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(damaged)))
        damaged[where : where + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    message = ""
    try:
        load_pickle(bytes(damaged))
    except InputError as error:
        message = str(error)
    assert len(message) < 600


def test_files_are_checked_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pickle"
    with pytest.raises(InputError, match="does not exist"):
        read_pickle(path, 100)
    path.write_bytes(pickle.dumps(list(range(1000))))
    with pytest.raises(InputError, match="larger than"):
        read_pickle(path, 100)
    with pytest.raises(InputError, match="cannot be read"):
        read_pickle(tmp_path, 1 << 20)
    assert read_pickle(path, 1 << 20) == list(range(1000))
