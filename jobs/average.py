"""`python -m jobs.average START RUN ... --out DIR`: average the weights of checkpoints that share a start.

Fine-tuning often improves a model on its data and makes it worse elsewhere. Averaging it with its start often keeps the
improvement without the loss (Wortsman et al. 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.cli import checkpoint_source, new_folder, parse, run_job
from models import checkpoint
from models.averaging import average
from models.refinement import build, named, to_dict
from models.storage import without_key
from models.working import whole_place


@dataclass(frozen=True, kw_only=True)
class AverageConfig:
    """Average the weights of a start and its fine-tuned models, or of several models fine-tuned from one start."""

    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Two or more checkpoints of one network: folders, addresses (s3://BUCKET/FOLDER) or maskwright:NAME."""
    out: str
    """New or empty folder, or address (s3://BUCKET/FOLDER), to write the checkpoint to."""
    shares: tuple[float, ...] = ()
    """Weight of each checkpoint in the mean, in the order given; default: equal weights."""
    licence: str | None = None
    """Licence to record; default: the licences of the checkpoints."""
    refine: str | None = None
    """Refinement to recommend, a name or a JSON file; default: the one that the first checkpoint recommends."""


def main(argv: Sequence[str]) -> int:
    """Parse the flags, average the checkpoints, and write the result."""
    config = parse(AverageConfig, argv, prog="average")
    out = new_folder("--out", config.out)
    sources = [checkpoint_source("CHECKPOINT", source) for source in config.checkpoints]
    network, photos, parts = average(sources, config.shares or (1.0,) * len(sources))
    infos = [checkpoint.describe(source)["info"] for source in sources]
    refinement = named(config.refine or infos[0].get("refinement"))
    build(refinement, network.traits)  # raises if this network does not support it
    licences = dict.fromkeys(info.get("licence") or "unknown" for info in infos)
    info = {
        "mean_of": parts,
        "licence": config.licence or "; ".join(licences),
        "refinement": to_dict(refinement),
    }
    with whole_place(out) as folder:
        checkpoint.save(network, folder, photos=photos, **info)
    for source, part in zip(sources, parts, strict=True):
        print(f"{part['share']:.3f} of {source}")
    print(f"-> {without_key(out)}")
    return 0


if __name__ == "__main__":
    run_job(main)
