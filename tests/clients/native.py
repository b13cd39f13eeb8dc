"""The native interface, with which all others are compared."""

import httpx
import numpy as np

from models import rle


def native_mask(address: str, image: bytes, *clicks: tuple[float, float, bool]) -> np.ndarray:
    """Return the mask, bool (h, w), of clicks (x, y, positive) in a new session."""
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        opened = client.post("/v1/sessions", content=image, headers={"Content-Type": "image/png"}).raise_for_status()
        path = f"/v1/sessions/{opened.json()['session_id']}"
        mask = np.zeros(0, bool)
        for x, y, positive in clicks:
            answer = client.post(f"{path}/clicks", json={"x": x, "y": y, "positive": positive}).raise_for_status()
            mask = rle.decode(answer.json()["mask"])
        client.delete(path).raise_for_status()
    assert 0 < mask.sum() < mask.size, "a mask that tells nothing"
    return mask
