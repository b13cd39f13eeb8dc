"""Common forms of files: other entries beside the weights, places of the weights, and prefixes of their names."""

import argparse
import datetime
import decimal
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import uuid
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models import published
from models.errors import InputError
from models.published.files import read_file, weights_of
from models.published.importing import import_backbone, import_model
from tests.models.authors import authors_state
from tests.models.tiny import tiny_network

STATE = {"a.weight": torch.arange(3.0), "a.bias": torch.zeros(1)}


def rewritten(path: Path, old: bytes, new: bytes) -> Path:
    """Replace bytes in the pickle of a file."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            assert not name.endswith("data.pkl") or old in content
            archive.writestr(name, content.replace(old, new) if name.endswith("data.pkl") else content)
    return path


BESIDE: list[Any] = [
    np.float64(0.875), np.float32(0.5), np.int64(-7), np.uint8(200), np.bool_(True), np.complex64(1 + 2j),
    np.str_("ä best"), np.bytes_(b"raw"), np.float16(1.5), np.array([1, 2]).astype(">i4")[1],
]  # fmt: skip


@pytest.mark.parametrize("numpy_1", [False, True])
@pytest.mark.parametrize("value", BESIDE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_scalars_are_read(value: Any, numpy_1: bool, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": STATE, "best": value}, path, _use_new_zipfile_serialization=zipped)
    if numpy_1 and zipped:
        rewritten(path, b"numpy._core", b"numpy.core")
    content = read_file(path)
    assert content["best"] == value
    assert type(content["best"]) is type(value)
    assert weights_of(content, path).state.keys() == STATE.keys()


@pytest.mark.parametrize(
    "value",
    [
        np.dtype("float32"), np.dtype([("a", "f4"), ("b", "i8")]), np.float32, np.dtypes.Float64DType, np.ones((2, 3)),
        np.random.default_rng(0).bit_generator.state, np.random.RandomState(0).get_state(), np.datetime64("2024-02-03"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])[0], np.array([None, "x"], object), np.void(b"ab"),
        argparse.Namespace(lr=0.1, device=torch.device("cpu")), pathlib.PurePosixPath("/a/b"), Path("x"),
        OrderedDict(a={1, 2}), torch.float16, torch.Size([2]), defaultdict(list, a=[1]), defaultdict(int),
        deque([1, 2]), datetime.datetime(2024, 2, 3, tzinfo=datetime.UTC), datetime.timedelta(3),
        datetime.date(2024, 2, 3), frozenset([1]), types.SimpleNamespace(lr=0.1), torch.Generator(),
        torch.get_rng_state(), decimal.Decimal("1.5"), uuid.UUID(int=7), range(3), slice(1, 2), Counter("aab"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_inert_objects_are_ignored(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": STATE, "beside": value, "many": [value, {"again": value}]}, path)
    found = weights_of(read_file(path), path)
    assert all(torch.equal(found.state[name], STATE[name]) for name in STATE)


PLAIN = {
    "np.int64": np.int64(3), "int": 3, "long": 2**80, "none": None, "float": 0.5, "text": "best", "bytes": b"a",
    "list": [0.1, 0.2], "dict": {"lr": 0.1}, "namespace": argparse.Namespace(a=1), "date": datetime.date(2024, 2, 3),
    "array": np.ones(3), "random": np.random.default_rng(0).bit_generator.state,
    "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_entries_beside_a_plain_state_dict_are_ignored(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({**STATE, name: PLAIN[name]}, path)
    found = weights_of(read_file(path), path)
    assert (found.place, found.prefix, found.state.keys()) == ("", "", STATE.keys())


NUMBERS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.columns": np.asfortranarray(np.eye(3)[:2]),
    "a.big": np.arange(3).astype(">f4"), "a.half": np.ones(2, np.float16), "a.count": np.array(7),
    "a.mask": np.array([True, False]), "a.none": np.zeros((0, 3), np.float32),
}  # fmt: skip


@pytest.mark.parametrize("place", ["", "state_dict"])
def test_weights_in_numpy_arrays_are_read(place: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    state = {**NUMBERS, "names": np.array(["a"]), "epoch": 3}
    torch.save({place: state, "best": np.float64(1)} if place else state, path)
    found = weights_of(read_file(path), path)
    assert (found.place, found.state.keys()) == (place, NUMBERS.keys())
    for name, tensor in found.state.items():
        assert torch.equal(tensor, torch.from_numpy(NUMBERS[name].astype(NUMBERS[name].dtype.newbyteorder("="))))


def test_array_with_a_wrong_size_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"a": np.arange(3.0), "b": np.ones((3, 4))}}, path)
    rewritten(path, b"K\x03K\x04", b"K\xffK\x04")
    assert weights_of(read_file(path), path).state.keys() == {"a"}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_another_pickle_protocol_is_named(protocol: int, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    content = {"state_dict": STATE, "type": np.dtype("float32"), "raw": b"abc"}
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=f"pickled with protocol {protocol}, .* save it with torch.save without pickle_proto"
    ):
        read_file(path)


def test_tensors_under_other_names_are_shown(tmp_path: Path) -> None:
    torch.save({"student": {"net": STATE}, "teacher": STATE, **OPTIMIZER}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"holds tensors in student\.net, teacher, .*save only the one that you want"):
        weights_of(read_file(tmp_path / "x.pth"), tmp_path / "x.pth")


@pytest.mark.networks
def test_dtype_with_a_wrong_size_is_ignored(tmp_path: Path) -> None:
    """NumPy's unpickling crashes the process on this file."""
    path = tmp_path / "x.pth"
    torch.save({"state_dict": STATE, "best": np.str_("ab")}, path)
    honest, lie = b"NNNK\x08K\x04K\x08t", b"NNNJ" + struct.pack("<i", -(2**31)) + b"K\x04K\x08t"
    rewritten(path, honest, lie)
    code = f"import torch, zipfile, pickle, numpy; pickle.loads({lied(path)!r})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode != 0
    assert weights_of(read_file(path), path).state.keys() == STATE.keys()


def lied(path: Path) -> bytes:
    """The scalar of a file that `rewritten` made, alone."""
    with zipfile.ZipFile(path) as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    return b"\x80\x02" + content[content.index(b"cnumpy") : content.rindex(b"R") + 1] + b"."


class Reduced:
    def __init__(self, *made: Any) -> None:
        self.made = made

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize(
    "hostile",
    [
        Reduced(eval, ("1",)), Reduced(getattr, (np.ones(1), "tofile")), Reduced(np.ones(1).tofile, ("x",)),
        Reduced(np.load, ("x",)), Reduced(np.fromfile, ("x",)), Reduced(Path("x").write_text, ("x",)),
        Reduced(np.frompyfunc, (len, 1, 1)), Reduced(pickle.loads, (b"",)), Reduced(argparse.ArgumentParser, ()),
    ],
    ids=lambda value: value.made[0].__name__,
)  # fmt: skip
def test_code_in_a_file_is_refused(hostile: Reduced, tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "beside": hostile}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"it would create or run [\w.]+, which weights never need"):
        read_file(tmp_path / "x.pth")


def test_safe_globals_are_restored_after_reading(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save({"state_dict": STATE, "best": np.float64(1)}, tmp_path / "x.pth")
    read_file(tmp_path / "x.pth")
    assert set(torch.serialization.get_safe_globals()) == before


OPTIMIZER = {"optimizer": torch.optim.SGD([torch.zeros(1)]).state_dict(), "epoch": 3}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (STATE, ""),
        *(({name: STATE, **OPTIMIZER}, name) for name in ("state_dict", "model_state_dict", "model", "net", "network")),
        *(({name: STATE}, name) for name in ("weights", "params", "model_state", "ema", "state_dict_ema")),
        ({"model": {"state_dict": STATE}, "lr": 0.1}, "model.state_dict"),
        ({"model": {"name": "vit", "depth": 12}, "model_state_dict": STATE}, "model_state_dict"),
        ({"model_ema": {"a": torch.ones(1)}, "model": STATE, **OPTIMIZER}, "model"),
        ({"ema": {"a": torch.ones(1)}, "model": {"state_dict": STATE}}, "model.state_dict"),
        ({"checkpoint": {"model_state_dict": STATE}}, "checkpoint.model_state_dict"),
        ({"checkpoint": STATE, "epoch": 3}, "checkpoint"),
        ({"model": {"state_dict": STATE}, "loss": torch.tensor(0.3), "rng": torch.get_rng_state()}, "model.state_dict"),
        ({"module": STATE, "dp_world_size": 8}, "module"),
        ({"ema_state_dict": {"a": torch.ones(1)}, "model_state_dict": STATE}, "model_state_dict"),
    ],
)
def test_weights_are_found(content: dict[str, Any], place: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    found = weights_of(read_file(tmp_path / "x.pth"), tmp_path / "x.pth")
    assert (found.place, found.prefix) == (place, "")
    assert found.state.keys() == STATE.keys()


@pytest.mark.parametrize(
    "content",
    [
        {"loss": torch.tensor(0.3), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        {"model": {"state_dict": {}}},
        {"ema": {"n_averaged": torch.tensor(3)}},
        {"optimizer_state_dict": {}},
        {"a": {}},
    ],
)
def test_file_without_weights_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds no weights"):
        weights_of(read_file(tmp_path / "x.pth"), tmp_path / "x.pth")


def test_self_referencing_container_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    with pytest.raises(InputError, match="holds no weights"):
        weights_of(content, tmp_path / "x.pth")


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.module.", "module.module."],
)
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_a_prefix_of_all_names_is_stripped_and_reported(prefix: str, form: str, tmp_path: Path) -> None:
    network, path = tiny_network(3, name="simpleclick_vit_xtiny"), tmp_path / f"x.{form}"
    state = {f"{prefix}{key}": tensor for key, tensor in authors_state(network).items()}
    save_file(state, path) if form == "safetensors" else torch.save({"model_state_dict": state}, path)
    other = tiny_network(0, name="simpleclick_vit_xtiny")
    report = published.load(other, path)
    assert report.prefix == prefix
    wanted = network.state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in other.state_dict().items())


def test_an_average_of_torch_is_read(tmp_path: Path) -> None:
    names = torch.optim.swa_utils.AveragedModel(tiny_network(3)).state_dict()
    assert "n_averaged" in names
    assert all(name.startswith("module.") for name in names.keys() - {"n_averaged"})
    state = {f"module.{key}": tensor for key, tensor in authors_state(tiny_network(3)).items()}
    torch.save({"n_averaged": names["n_averaged"], **state}, tmp_path / "x.pth")
    assert published.load(tiny_network(0), tmp_path / "x.pth").prefix == "module."


def test_prefix_of_some_names_is_kept(tmp_path: Path) -> None:
    state = {(key if "neck" in key else f"module.{key}"): value for key, value in tiny_network().state_dict().items()}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(
        InputError, match=r"(?s)tensors not used: module\..*have the prefix 'module\.' \(.*, but not neck\."
    ):
        published.load(tiny_network(), tmp_path / "x.pth")


@pytest.mark.parametrize("prefix", ["student.", "segmentor.", "ema_model.", "ema_model.module."])
@pytest.mark.parametrize(("extra", "which"), [((), "all have it"), (("teacher.a", "step"), "but not step, teacher.a")])
def test_unknown_prefix_is_explained(prefix: str, extra: tuple[str, ...], which: str, tmp_path: Path) -> None:
    state = {f"{prefix}{key}": value for key, value in authors_state(tiny_network()).items()}
    torch.save(state | {name: torch.ones(1) for name in extra}, tmp_path / "x.pth")
    with pytest.raises(
        InputError, match=rf"(?s)tensors missing.*have the prefix '{prefix}' \(.*{which}\): save the state dict"
    ):
        published.load(tiny_network(), tmp_path / "x.pth")


def test_explanation_lists_names_without_the_prefix(tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in authors_state(tiny_network()).items()}
    torch.save(state | {"class_weights": torch.ones(3)}, tmp_path / "x.pth")
    with pytest.raises(
        InputError, match=r"have the prefix 'module\.' \(\d+ of \d+ names begin with it, but not class_weights\)"
    ):
        published.load(tiny_network(), tmp_path / "x.pth")


def test_missing_tensors_are_not_explained_by_a_prefix(tmp_path: Path) -> None:
    state = dict(list(authors_state(tiny_network()).items())[3:])
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(InputError) as caught:
        published.load(tiny_network(), tmp_path / "x.pth")
    assert "prefix" not in str(caught.value)


@pytest.mark.networks
def test_import_reports_the_stripped_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from jobs import import_checkpoint
    from models.published.importing import fresh

    state = authors_state(fresh("simpleclick_vit_xtiny", seed=7))
    content = {"model_state_dict": {f"module._orig_mod.{key}": value for key, value in state.items()}}
    torch.save(content | {"best": np.float64(0.5)} | OPTIMIZER, tmp_path / "x.pth")
    flags = ["--network", "simpleclick_vit_xtiny", "--out", str(tmp_path / "out")]
    assert import_checkpoint.main([str(tmp_path / "x.pth"), *flags]) == 0
    said = capsys.readouterr().out
    assert "prefix       module._orig_mod., stripped from all names" in said
    assert "weights      in the file's model_state_dict" in said
    source = import_model(tmp_path / "x.pth", "simpleclick_vit_xtiny").source
    assert (source.place, source.prefix) == ("model_state_dict", "module._orig_mod.")

    backbone = {f"module.{key}": value for key, value in state.items() if key.startswith("backbone.")}
    torch.save({"net": backbone}, tmp_path / "y.pth")
    assert import_backbone(tmp_path / "y.pth", "simpleclick_vit_xtiny").source.prefix == "module."
