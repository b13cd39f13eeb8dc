"""Make the fixtures of the SAM family from the public code, in a separate environment.

    python -m venv /tmp/public && /tmp/public/bin/pip install torch torchvision segment-anything==1.0 sam2==1.1.0
    /tmp/public/bin/python -m tests.parity.make_sam FOLDER

Weights follow from the authors' names (tests/parity/weights.py). Networks run at a side of 256 pixels, where windows
are padded as at 1024. Key lists are of the published sizes, on the meta device.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.parity.weights import state_dict

SIDE = 256
CALLS: list[dict[str, Any]] = [
    {"clicks": [[80, 60, True]], "multimask": True},
    {"clicks": [[80, 60, True], [30, 120, False]], "feed": 0},
    {"clicks": [[80, 60, True], [30, 120, False], [10.5, 7.25, True]], "feed": 1},
    {"clicks": [[80, 60, True], [100, 100, False]], "box": [20, 15, 140, 110]},
    {"clicks": [[0, 0, True]], "feed": 2},
]
"""Clicks as y, x, positive in the image; `feed`: the call whose (best) low-resolution logits go in; box x0 y0 x1 y1."""


def picture(hw: tuple[int, int], seed: int) -> np.ndarray:
    """A smooth picture with edges, uint8 (h, w, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: hw[0], : hw[1]] / max(hw)
    waves = sum(np.sin(2 * np.pi * (a * x + b * y) + c) for a, b, c in rng.uniform(0, 6, (5, 3)))
    image = 128 + 25 * waves[..., None] * rng.uniform(0.5, 1, 3)
    image[hw[0] // 4 : hw[0] // 2, hw[1] // 4 : hw[1] // 2] += 60
    return np.clip(image, 0, 255).astype(np.uint8)


def fill(model: torch.nn.Module) -> list[list[Any]]:
    """Give a model the weights of its names; returns its key list."""
    keys = [[key, list(tensor.shape)] for key, tensor in model.state_dict().items()]
    model.load_state_dict(state_dict(keys))
    model.eval()
    return keys


def run(predictor: Any, image: np.ndarray, answers: dict[str, np.ndarray]) -> None:
    """Set an image and make the calls; low-resolution logits, qualities and full-size logits of each."""
    predictor.set_image(image)
    best: list[np.ndarray] = []
    for number, call in enumerate(CALLS):
        clicks = np.array(call["clicks"], np.float64)
        logits, quality, low = predictor.predict(
            point_coords=clicks[:, [1, 0]],
            point_labels=clicks[:, 2].astype(int),
            box=np.array(call["box"]) if "box" in call else None,
            mask_input=best[call["feed"]] if "feed" in call else None,
            multimask_output=call.get("multimask", False),
            return_logits=True,
        )
        chosen = int(np.argmax(quality))
        best.append(low[chosen : chosen + 1])
        answers |= {f"low{number}": low, f"quality{number}": quality, f"full{number}": logits[chosen][::5, ::5]}


def write(folder: Path, name: str, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write one fixture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content) + "\n")
    if arrays:
        plain = {key: array.astype(np.float32) if array.dtype == np.float64 else array for key, array in arrays.items()}
        np.savez_compressed(folder / f"{name}.npz", **plain)


def make_sam(folder: Path) -> None:
    """A small ViT of SAM with two window and two global blocks."""
    from segment_anything import SamPredictor
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    grid = SIDE // 16
    shape = {"dim": 96, "depth": 4, "heads": 3, "global_blocks": [1, 3]}
    model = Sam(
        image_encoder=ImageEncoderViT(
            img_size=SIDE,
            embed_dim=96,
            depth=4,
            num_heads=3,
            out_chans=256,
            norm_layer=lambda dim: torch.nn.LayerNorm(dim, eps=1e-6),
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(1, 3),
            window_size=14,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=256, image_embedding_size=(grid, grid), input_image_size=(SIDE, SIDE), mask_in_chans=16
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
    keys = fill(model)
    predictor = SamPredictor(model)
    for name, hw in (("a", (150, 201)), ("b", (311, 173))):
        image = picture(hw, len(name) + hw[0])
        arrays = {"image": image}
        run(predictor, image, arrays)
        arrays["embedding"] = predictor.features[0, ::4].numpy()
        content = {"network": "sam_vit_base", "options": shape | {"side": SIDE}, "prompt_calls": CALLS, "keys": keys}
        write(folder, f"sam_vit_{name}", content, arrays)


def make_sam2(folder: Path) -> None:
    """SAM 2.1 with its smallest Hiera."""
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    overrides = [f"++model.image_size={SIDE}"]
    model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", None, "cpu", hydra_overrides_extra=overrides)
    keys = fill(model)
    predictor = SAM2ImagePredictor(model)
    predictor._bb_feat_sizes = [(SIDE // 4, SIDE // 4), (SIDE // 8, SIDE // 8), (SIDE // 16, SIDE // 16)]
    hw = (150, 201)
    image = picture(hw, 7)
    arrays = {"image": image}
    run(predictor, image, arrays)
    arrays["embedding"] = predictor._features["image_embed"][0, ::4].numpy()
    for number, fine in enumerate(predictor._features["high_res_feats"]):
        arrays[f"fine{number}"] = fine[0, ::8, ::4, ::4].numpy()
    content = {"network": "sam2_hiera_tiny", "options": {"side": SIDE}, "prompt_calls": CALLS, "keys": keys}
    write(folder, "sam2_hiera_tiny_a", content, arrays)


def make_keys(folder: Path) -> None:
    """Names and shapes of the published sizes."""
    from sam2.build_sam import build_sam2
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        models = {f"sam_vit_{size}": sam_model_registry[f"vit_{size[0]}"]() for size in ("base", "large", "huge")}
    for size, name in (("tiny", "t"), ("small", "s"), ("base_plus", "b+"), ("large", "l")):
        models[f"sam2_hiera_{size}"] = build_sam2(f"configs/sam2.1/sam2.1_hiera_{name}.yaml", None, "cpu")
    for name, model in models.items():
        keys = [[key, list(tensor.shape)] for key, tensor in model.state_dict().items()]
        write(folder, f"{name}_keys", {"network": name, "sam_keys": keys}, {})


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        for make in (make_sam, make_sam2, make_keys):
            make(Path(sys.argv[1]))
