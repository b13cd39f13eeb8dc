"""A small untrained network with the masks of a seed: `python -m tests.clients.make_checkpoint FOLDER`, with torch."""

import sys
from pathlib import Path

import torch

from models import checkpoint
from models.networks import create


def main(folder: Path) -> None:
    torch.manual_seed(0)
    network = create("simpleclick_vit_xtiny", input_hw=(64, 64), depth=4)
    checkpoint.save(network, folder, refinement="zoom_in")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
