"""Compare mobile_sam with the pair of ONNX files that its weights come from: masks of random clicks, and times.

python -m benchmarks.sam_pair ENCODER.onnx DECODER.onnx CHECKPOINT PHOTO_FOLDER
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from models.predictor import Predictor

PHOTOS, CLICKS, SIDE = 10, 20, 1024


class Pair:
    """The authors' predictor on a pair of ONNX files, for one session at a time, on one thread."""

    def __init__(self, encoder: Path, decoder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            for path in (encoder, decoder)
        )

    def open(self, image: np.ndarray) -> None:
        """Encode an image (h, w, 3)."""
        self.hw = image.shape[:2]
        scale = SIDE / max(self.hw)
        self.inside = tuple(int(side * scale + 0.5) for side in self.hw)
        pixels = Image.fromarray(image).resize(self.inside[::-1], Image.Resampling.BILINEAR)
        normalised = (np.asarray(pixels, np.float32) - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375)
        frame = np.zeros((1, 3, SIDE, SIDE), np.float32)
        frame[0, :, : self.inside[0], : self.inside[1]] = normalised.transpose(2, 0, 1)
        self.embedding = self.encoder.run(None, {"input": frame})[0]
        self.xy: list[tuple[float, float]] = []
        self.labels: list[float] = []
        self.low = np.zeros((1, 1, SIDE // 4, SIDE // 4), np.float32)

    def click(self, y: float, x: float, positive: bool) -> np.ndarray:
        """Add a click and return the mask, bool (h, w)."""
        fed = np.array([len(self.xy) > 0], np.float32)
        self.xy.append((x * self.inside[1] / self.hw[1], y * self.inside[0] / self.hw[0]))
        self.labels.append(float(positive))
        inputs = {
            "image_embeddings": self.embedding,
            "point_coords": np.array([[*self.xy, (0, 0)]], np.float32),
            "point_labels": np.array([[*self.labels, -1]], np.float32),
            "mask_input": self.low,
            "has_mask_input": fed,
            "orig_im_size": np.array(self.hw, np.float32),
        }
        masks, _, self.low = self.decoder.run(None, inputs)
        return masks[0, 0] > 0


def timed(times: list[float], call: Any, *values: Any) -> Any:
    """Call, append the time in milliseconds to `times`, and return the result."""
    start = time.perf_counter()
    result = call(*values)
    times.append(1000 * (time.perf_counter() - start))
    return result


def main() -> None:
    """Make the clicks, compare the masks and print the results."""
    encoder, decoder, checkpoint, folder = (Path(argument) for argument in sys.argv[1:5])
    torch.set_num_threads(1)
    pair, predictor = Pair(encoder, decoder), Predictor(checkpoint)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    worst = 1.0
    times: dict[str, list[float]] = {"torch opens": [], "pair opens": [], "torch clicks": [], "pair clicks": []}
    for path in files[:: max(1, len(files) // PHOTOS)][:PHOTOS]:
        image = np.asarray(Image.open(path).convert("RGB"))
        session, rng = predictor.open(image), np.random.default_rng(0)
        timed(times["torch opens"], session.look_ahead)
        timed(times["pair opens"], pair.open, image)
        shares = []
        for number in range(CLICKS):
            y, x = (int(rng.integers(side)) for side in image.shape[:2])
            timed(times["torch clicks"], session.click, y, x, number % 3 == 0)
            mask = timed(times["pair clicks"], pair.click, y, x, number % 3 == 0)
            shares.append(float((session.mask == mask).mean()))
        worst = min(worst, *shares)
        print(f"{path.name}: the worst of {CLICKS} masks agrees on {min(shares):.5%} of the pixels", flush=True)
    medians = ", ".join(f"{name} {statistics.median(runs):.0f}" for name, runs in times.items())
    print(f"worst of all {worst:.5%}; medians in ms: {medians}")


if __name__ == "__main__":
    main()
