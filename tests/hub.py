"""A cache of the Hugging Face hub, as timm's loader finds it without internet."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

REVISION = "0" * 40


def offline_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process's hub be what `folder` holds, and nothing else."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def cached(folder: Path, backbone: str, seed: int = 0) -> dict[str, Tensor]:
    """Put weights of a whole classifier into the cache, as the hub holds those that timm made; returns them."""
    import timm  # not before models.torchvision_ops

    torch.manual_seed(seed)
    model = timm.create_model(backbone)
    state = model.state_dict()
    for name, value in state.items():
        if value.is_floating_point():  # batch norms too are not what they are when fresh
            state[name] = torch.rand_like(value)
    repository = folder / f"models--{model.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    save_file(state, snapshot / "model.safetensors")
    return state
