"""`python -m jobs.predict [--checkpoint DIR] --image FILE --clicks Y,X,+ Y,X,-`: segment an object without a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.cli import parse, run_job
from models.backend import Backend
from models.box import DEFAULT
from models.decoding import Decoding
from models.errors import InputError
from models.files import write_image
from models.interaction import Clicks
from models.precision import Precision
from models.predictor import Predictor
from models.storage import split, without_key
from models.working import at_hand, shown, working
from pipeline.data.images import read_image
from pipeline.drawing.overlays import overlay


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Decoding):
    """Segment one object of an image by clicks."""

    checkpoint: str = DEFAULT
    """Checkpoint: a folder, an address (s3://BUCKET/FOLDER) or maskwright:NAME."""
    image: str
    """Image to segment: a file or an address (s3://BUCKET/FILE)."""
    clicks: tuple[str, ...]
    """Clicks in order, each Y,X,+ (on the object) or Y,X,- (beside it) in pixels."""
    refine: str | None = None
    """Refinement, a name or a JSON file; default: the one that the checkpoint recommends."""
    precision: Precision = "fp32"
    """Precision of the network: bf16 is about twice as fast on processors that support it, and slightly less exact."""
    backend: Backend = "torch"
    """Runtime of the network: torch, or onnxruntime on the CPU, which exports the checkpoint once (docs/ONNX.md)."""
    out: str = "mask.png"
    """File or address for the mask, a PNG of 0 and 255; an overlay is written next to it as *_overlay.jpg."""


def main(argv: Sequence[str]) -> int:
    """Parse the flags, apply the clicks, and write the mask and the overlay."""
    config = parse(PredictConfig, argv, prog="predict")
    folder, name = split(config.out)
    if Path(name).suffix.lower() != ".png":
        raise InputError(f"--out {without_key(config.out)}: expected a file name that ends in .png")
    image = read(config)
    predictor = Predictor(
        config.checkpoint, refinement=config.refine, precision=config.precision, backend=config.backend
    )
    session = predictor.open(image)
    for text in config.clicks:
        session.click(*parse_click(text))
    picture = overlay(image, session.mask, None, Clicks.of(session.clicks.rows()), longest_side=max(image.shape[:2]))
    with working(folder) as out:
        pictured = out / f"{Path(name).stem}_overlay.jpg"
        write_image(out / name, session.mask.astype("uint8") * 255)
        write_image(pictured, picture)
        print(f"{int(session.mask.sum())} pixels -> {shown(out / name)}, {shown(pictured)}")
    return 0


def read(config: PredictConfig) -> np.ndarray:
    """Read the image, by default upright as its EXIF data says; raises InputError."""
    with at_hand(config.image) as path:
        if not path.is_file():
            raise InputError(f"--image {without_key(config.image)}: no such file")
        try:
            return read_image(path, upright=config.exif != "stored", decoding=config)
        except ValueError as error:
            raise InputError(f"{without_key(config.image)} cannot be read: {error}") from error


def parse_click(text: str) -> tuple[float, float, bool]:
    """Parse "y,x,+" or "y,x,-" (no sign: positive) into y, x and whether it is positive; raises InputError."""
    parts = text.split(",")
    try:
        y, x = float(parts[0]), float(parts[1])
        positive = {"+": True, "-": False}[parts[2]] if len(parts) > 2 else True
    except (ValueError, IndexError, KeyError):
        raise InputError(f"--clicks {text!r}: expected Y,X,+ or Y,X,- in pixels, such as 120,80,+") from None
    return y, x, positive


if __name__ == "__main__":
    run_job(main)
