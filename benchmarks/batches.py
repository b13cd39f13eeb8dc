"""Time per request in a batch, for the heavy and the light half of a split network.

python -m benchmarks.batches --checkpoint DIR [--threads 1] [--sizes 1 2 4 8]
"""

import argparse
import io
import statistics
import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.serve import picture
from models.predictor import Predictor
from models.steps import Correct, Encode


def requests_of(predictor: Predictor, image: np.ndarray) -> dict[str, Any]:
    """Return one request for each half, recorded from a session with two clicks."""
    real, seen = predictor.answer, {}

    def note(requests: list[Any]) -> list[Any]:
        seen[type(requests[0])] = requests[0]
        return real(requests)

    predictor.answer = note
    session = predictor.open(image)
    for y, x in ((0.5, 0.5), (0.4, 0.3)):
        session.click(int(y * image.shape[0]), int(x * image.shape[1]), True)
    predictor.answer = real
    return {"encode": seen[Encode], "correct": seen[Correct]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4, 8])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    predictor = Predictor(args.checkpoint)
    image = np.array(Image.open(io.BytesIO(picture(None))).convert("RGB"))
    print("| half | requests | ms each |\n|---|---|---|")
    for half, request in requests_of(predictor, image).items():
        for size in args.sizes:
            predictor.answer([request] * size)
            seconds = []
            for _ in range(5):
                began = time.perf_counter()
                predictor.answer([request] * size)
                seconds.append((time.perf_counter() - began) / size)
            print(f"| {half} | {size} | {1e3 * statistics.median(seconds):.1f} |")


if __name__ == "__main__":
    main()
