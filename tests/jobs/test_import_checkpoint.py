import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from jobs import import_checkpoint
from models import checkpoint
from models.errors import InputError
from models.predictor import Predictor
from models.published.importing import fresh
from tests.models.authors import authors_config, authors_state

pytestmark = pytest.mark.networks
REPOSITORY = Path(__file__).parents[2]
EMC_CONFIG = authors_config("is_refine_model.HRNetRefineModel", width=18, ocr_width=48, small=True, norm_radius=5)


@pytest.fixture(scope="module")
def emc() -> dict[str, Tensor]:
    return authors_state(fresh("emc_hrnet18s", seed=7))


@pytest.fixture(scope="module")
def xtiny() -> dict[str, Tensor]:
    return authors_state(fresh("simpleclick_vit_xtiny", seed=7))


def run(file: Path, network: str, *flags: str, out: str = "imported") -> dict[str, Any]:
    """Import into ./`out` and return the description that was written."""
    assert import_checkpoint.main([str(file), "--network", network, "--out", out, *flags]) == 0
    return checkpoint.describe(out)


@pytest.mark.check(20)
def test_an_authors_file_becomes_a_checkpoint(
    emc: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": emc, "config": EMC_CONFIG}, "hr18s.pth")
    info = run(Path("hr18s.pth"), "emc_hrnet18s")["info"]
    assert info["source"]["file"] == "hr18s.pth"
    assert info["source"]["class"] == "isegm.model.is_refine_model.HRNetRefineModel"
    assert len(info["source"]["sha256"]) == 64
    assert info["licence"] == "MIT"
    assert info["refinement"]["flip"] is True
    said = capsys.readouterr().out
    for line in (
        f"SHA-256      {info['source']['sha256']}",
        "network      emc_hrnet18s, 4,308,208 parameters",
        "dead         24 tensors",
        "aliases      32 verified copies of other tensors",
        "licence      MIT",
        "refinement   flip",
        f"-> {tmp_path / 'imported'}",
    ):
        assert line in said
    loaded, _ = checkpoint.load("imported")
    assert all(torch.equal(tensor, emc[key]) for key, tensor in loaded.state_dict().items())
    session = Predictor("imported").open(np.zeros((60, 80, 3), np.uint8))
    assert session.click(30, 40).shape == (60, 80)


def test_flags_override_what_is_recorded(xtiny: dict[str, Tensor], capsys: pytest.CaptureFixture[str]) -> None:
    save_file({key: tensor for key, tensor in xtiny.items() if "up_conv" not in key}, "x.safetensors")
    info = run(Path("x.safetensors"), "simpleclick_vit_xtiny", "--licence", "ours", "--refine", "cfr_2")["info"]
    assert info["licence"] == "ours"
    assert info["source"]["class"] is None
    assert info["refinement"]["cascade"]["steps"] == 2
    said = capsys.readouterr().out
    assert "missing      16 dead tensors, which are not needed: head.up_conv1.0.bias" in said
    assert "refinement   cfr_2" in said


def test_a_backbone_starts_a_network_by_seed(xtiny: dict[str, Tensor], capsys: pytest.CaptureFixture[str]) -> None:
    vit = {key.removeprefix("backbone."): tensor for key, tensor in xtiny.items() if key.startswith("backbone.")}
    torch.save({"model": vit}, "mae.pth")
    description = run(Path("mae.pth"), "simpleclick_vit_xtiny", "--as", "backbone", "--seed", "4")
    assert description["info"]["licence"] == "unknown: see the file's source"
    assert description["info"]["source"]["as"] == "backbone"
    assert description["info"]["source"]["seed"] == 4
    said = capsys.readouterr().out
    assert "set          99 of 145 tensors, 2,722,720 values" in said
    assert "fresh        head (12), neck (32), patch_embed_coords (2), drawn with seed 4" in said
    loaded = checkpoint.load("imported")[0].state_dict()
    assert torch.equal(loaded["backbone.blocks.7.attn.qkv.weight"], vit["blocks.7.attn.qkv.weight"])
    assert torch.equal(
        loaded["head.conv_seg.weight"], fresh("simpleclick_vit_xtiny", 4).get_parameter("head.conv_seg.weight")
    )


def test_a_network_is_built_around_the_backbone_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    import timm

    given = timm.create_model("test_efficientnet").state_dict()
    save_file(given, "timm.safetensors")
    flags = ("--as", "backbone", "--backbone", "test_efficientnet")
    description = run(Path("timm.safetensors"), "lite_s", *flags, "--licence", "Apache-2.0")
    assert description["config"]["backbone"] == "test_efficientnet"
    assert "fresh        image_encoder.lateral (1), image_encoder.neck (6)" in capsys.readouterr().out
    loaded = checkpoint.load("imported")[0].state_dict()
    assert torch.equal(loaded["image_encoder.trunk.conv_stem.weight"], given["conv_stem.weight"])
    with pytest.raises(InputError, match="test_efficientnet goes with --as backbone, not with --as model"):
        run(Path("timm.safetensors"), "lite_s", "--backbone", "test_efficientnet", out="other")


def test_the_same_import_may_be_repeated_and_another_may_not(xtiny: dict[str, Tensor]) -> None:
    torch.save(xtiny, "a.pth")
    torch.save({"state_dict": xtiny}, "b.pth")
    first = run(Path("a.pth"), "simpleclick_vit_xtiny", "--refine", "standard")
    again = run(Path("a.pth"), "simpleclick_vit_xtiny")
    assert again["sha256"] == first["sha256"]
    assert again["info"]["refinement"] != first["info"]["refinement"]
    with pytest.raises(InputError, match="imported holds another checkpoint, of simpleclick_vit_xtiny: name a new"):
        run(Path("b.pth"), "simpleclick_vit_xtiny")
    assert checkpoint.describe("imported") == again
    assert sorted(path.name for path in Path("imported").iterdir()) == [checkpoint.DESCRIPTION, checkpoint.WEIGHTS]


def test_an_import_of_an_earlier_version_may_be_repeated(xtiny: dict[str, Tensor]) -> None:
    """An earlier version recorded less about the source of the file."""
    torch.save(xtiny, "a.pth")
    torch.save({"state_dict": xtiny}, "b.pth")
    known = run(Path("a.pth"), "simpleclick_vit_xtiny")
    path = Path("imported") / checkpoint.DESCRIPTION
    earlier = json.loads(path.read_text())
    del earlier["info"]["source"]["class"]
    path.write_text(json.dumps(earlier))
    with pytest.raises(InputError, match="imported holds another checkpoint"):
        run(Path("b.pth"), "simpleclick_vit_xtiny")
    assert run(Path("a.pth"), "simpleclick_vit_xtiny") == known
    del earlier["info"]["source"]
    path.write_text(json.dumps(earlier))
    with pytest.raises(InputError, match="imported holds another checkpoint"):
        run(Path("a.pth"), "simpleclick_vit_xtiny")


def test_an_empty_folder_is_filled(xtiny: dict[str, Tensor]) -> None:
    Path("imported").mkdir()
    torch.save(xtiny, "a.pth")
    run(Path("a.pth"), "simpleclick_vit_xtiny")
    checkpoint.load("imported")


ERRORS: list[tuple[str, Any, list[str], str]] = [
    (
        "unknown network",
        None,
        ["--network", "ritm_hrnet8"],
        "unknown network 'ritm_hrnet8'; did you mean 'ritm_hrnet18'",
    ),
    (
        "another network",
        "emc",
        ["--network", "ritm_hrnet18s"],
        r"x\.pth holds emc_hrnet18s: pass --network emc_hrnet18s",
    ),
    (
        "another by its config",
        {"config": authors_config("is_hrnet_model.HRNetModel", width=32, ocr_width=128, small=False)},
        ["--network", "ritm_hrnet18s"],
        r"x\.pth holds ritm_hrnet32: pass --network ritm_hrnet32",
    ),
    ("no base", "emc", ["--network", "emc_hrnet18s", "--as", "base"], "use --as base only for emc_vit"),
    (
        "no backbone",
        "emc",
        ["--network", "emc_hrnet18s", "--as", "backbone"],
        r"model \(emc_hrnet18s\), not a backbone",
    ),
    ("refinement", "emc", ["--network", "emc_hrnet18s", "--refine", "flp"], "unknown refinement 'flp'"),
    ("stages", [{"state_dict": {}}], ["--network", "emc_hrnet18s"], "holds a list of 1 checkpoints"),
    ("out", "emc", ["--network", "emc_hrnet18s", "--out", "x.pth"], r"--out \S+x\.pth is a file: name a folder"),
    (
        "out full",
        "emc",
        ["--network", "emc_hrnet18s", "--out", "full"],
        r"--out \S+full holds other files: name a new",
    ),
    ("out URL", "emc", ["--network", "emc_hrnet18s", "--out", "s3://k:s@a/b"], "s3://a/b was given with a key"),
]


@pytest.mark.parametrize(("content", "flags", "said"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_a_failed_import_is_one_error_and_writes_nothing(
    content: Any, flags: list[str], said: str, emc: dict[str, Tensor], tmp_path: Path
) -> None:
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    wrapped = (
        {"state_dict": {"maps_transform.0.bias": torch.zeros(1)}, **content} if isinstance(content, dict) else content
    )
    torch.save(emc if content == "emc" else wrapped, "x.pth")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=said):
        import_checkpoint.main(["x.pth", "--out", "imported", *flags])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_nothing(
    there: bool, xtiny: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(xtiny, "a.pth")
    if there:
        run(Path("a.pth"), "simpleclick_vit_xtiny")

    def half(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_tensors", half)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"imported/weights\.safetensors cannot be written: No space left"):
        run(Path("a.pth"), "simpleclick_vit_xtiny")
    assert sorted(tmp_path.rglob("*")) == before
    if there:
        checkpoint.load("imported")


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch canary",)


@pytest.mark.check(19)
def test_a_malicious_file_is_one_error_and_runs_nothing(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2)}, "config": Evil()}, "evil.pth")
    done = subprocess.run(
        [sys.executable, "-m", "jobs.import_checkpoint", "evil.pth", "--network", "ritm_hrnet18s", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "create or run posix.system" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pth"]
    torch.load("evil.pth", weights_only=False)
    assert Path("canary").exists(), (
        "the file does not run its command even when unpickled: this test would prove nothing"
    )


def test_the_description_is_plain_json(xtiny: dict[str, Tensor]) -> None:
    torch.save(xtiny, "a.pth")
    description = run(Path("a.pth"), "simpleclick_vit_xtiny")
    assert json.loads(json.dumps(description)) == description
