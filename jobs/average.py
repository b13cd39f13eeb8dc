"""`python -m jobs.average START RUN ... --out DIR`: the mean of checkpoints that have one start."""

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
    """Write the mean of checkpoints: a start and its fine-tunings, or several fine-tunings of one start.

    A fine-tuning that gained on its own data and lost elsewhere often keeps the gain without the loss when it is
    averaged with its start (Wortsman et al. 2022).
    """

    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Two or more, folders, addresses or maskwright:NAME, of one network."""
    out: str
    """A new or empty folder, or an address (s3://BUCKET/FOLDER), for the checkpoint."""
    shares: tuple[float, ...] = ()
    """How much of each, in their order; none: equal shares."""
    licence: str | None = None
    """Licence to record; none: those that the checkpoints name."""
    refine: str | None = None
    """Refinement to recommend, by name or JSON file; none: the first checkpoint's."""


def main(argv: Sequence[str]) -> int:
    """Parse, average, write."""
    config = parse(AverageConfig, argv, prog="average")
    out = new_folder("--out", config.out)
    sources = [checkpoint_source("CHECKPOINT", source) for source in config.checkpoints]
    network, photos, parts = average(sources, config.shares or (1.0,) * len(sources))
    infos = [checkpoint.describe(source)["info"] for source in sources]
    refinement = named(config.refine or infos[0].get("refinement"))
    build(refinement, network.traits)  # refuses what this network cannot do
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
