"""`python -m jobs.predict [--checkpoint DIR] --image FILE --clicks Y,X,+ Y,X,-`: a mask, without a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.cli import parse, run_job
from models.backend import Backend
from models.box import DEFAULT
from models.decoding import Decoding
from models.errors import InputError
from models.files import write_image
from models.interaction import Clicks
from models.precision import Precision
from models.predictor import Predictor
from pipeline.data.images import read_image
from pipeline.drawing.overlays import overlay


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Decoding):
    """Segment one object of one image."""

    checkpoint: str = DEFAULT
    """Checkpoint: its folder, its address (s3://BUCKET/FOLDER) or maskwright:NAME."""
    image: Path
    clicks: tuple[str, ...]
    """Clicks as y,x,+ or y,x,- in pixels, in order."""
    refine: str | None = None
    """Refinement, by name or JSON file; none: what the checkpoint recommends."""
    precision: Precision = "fp32"
    """bf16 is about twice as fast where the processor has instructions for it, and a little off."""
    backend: Backend = "torch"
    """onnx: onnxruntime on the CPU, with files that are made of the checkpoint once (docs/ONNX.md)."""
    out: Path = Path("mask.png")
    """Where the mask goes (PNG, 0 and 255); an overlay is written beside it as *_overlay.jpg."""


def main(argv: Sequence[str]) -> int:
    """Parse, click, write."""
    config = parse(PredictConfig, argv, prog="predict")
    if not config.image.is_file():
        raise InputError(f"no image at {config.image}")
    if config.out.suffix.lower() != ".png":
        raise InputError(f"--out {config.out}: expected a name that ends in .png")
    try:
        image = read_image(config.image, upright=config.exif != "stored", decoding=config)  # as a page shows it
    except ValueError as error:
        raise InputError(f"{config.image} cannot be read: {error}") from error
    predictor = Predictor(
        config.checkpoint, refinement=config.refine, precision=config.precision, backend=config.backend
    )
    session = predictor.open(image)
    for text in config.clicks:
        session.click(*parse_click(text))
    picture = overlay(image, session.mask, None, Clicks.of(session.clicks.rows()), longest_side=max(image.shape[:2]))
    pictured = config.out.with_name(f"{config.out.stem}_overlay.jpg")
    write_image(config.out, session.mask.astype("uint8") * 255)
    write_image(pictured, picture)
    print(f"{int(session.mask.sum())} pixels -> {config.out}, {pictured}")
    return 0


def parse_click(text: str) -> tuple[float, float, bool]:
    """Read "y,x,+" or "y,x,-"."""
    parts = text.split(",")
    try:
        y, x = float(parts[0]), float(parts[1])
        positive = {"+": True, "-": False}[parts[2]] if len(parts) > 2 else True
    except (ValueError, IndexError, KeyError):
        raise InputError(f"click {text!r}: expected Y,X,+ or Y,X,- in pixels, such as 120,80,+") from None
    return y, x, positive


if __name__ == "__main__":
    run_job(main)
