"""Print the table in docs/REFINEMENTS.md of networks and refinements: `python -m models.refinement.matrix`."""

import sys
from collections.abc import Mapping

import torch

from models.networks import NETWORKS
from models.networks.base import Traits
from models.refinement.composition import Refinement, why_not
from models.refinement.registry import PARTS

COLUMNS = {
    "icmformer_vit": "icmformer", "emc_hrnet": "emc", "emc_segformer": "emc", "sam_vit": "sam, mobile_sam",
    "mobile_sam": "sam, mobile_sam",
}  # fmt: skip
"""Titles of columns by prefix of the network's name, where the prefix before the first `_` is not the title."""
OWN = ("icmformer_swin", "emc_vit")


def rows() -> dict[str, Refinement]:
    """Return a refinement for every part alone and for every setting that concerns all parts."""
    parts = {name: Refinement((part,)) for kind in PARTS.values() for name, part in kind.rows().items()}
    settings = {
        "limit_longest_side": Refinement(limit_longest_side=96),
        "max_network_clicks": Refinement(max_network_clicks=2),
    }
    return {"standard": Refinement(), **parts, **settings}


def column_of(name: str) -> str:
    """Return the column of a network by its name; networks in one column support the same refinements."""
    starts = [start for start in (*COLUMNS, *OWN) if name.startswith(start)]
    return COLUMNS.get(starts[0], starts[0]) if starts else name.split("_")[0]


def columns() -> dict[str, Traits]:
    """Return the traits of one network per column."""
    found: dict[str, Traits] = {}
    for name, config in NETWORKS.items():
        if column_of(name) not in found:
            with torch.device("meta"):
                found[column_of(name)] = config.build().traits
    return found


def table(networks: Mapping[str, Traits]) -> str:
    """Return a Markdown table of yes and no, with notes on the reasons and on unexpected costs."""
    notes: list[str] = []
    lines = [f"| | {' | '.join(networks)} |", "|---" * (len(networks) + 1) + "|"]
    for name, refinement in rows().items():
        cells = [_cell(refinement, traits, notes) for traits in networks.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    numbered = [f"{number}. {note[0].upper()}{note[1:]}." for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *numbered])


def _cell(refinement: Refinement, traits: Traits, notes: list[str]) -> str:
    reasons = why_not(refinement, traits)
    # A reason names the refused setting and, after a colon, the cause.
    said = [reason.partition(": ")[2] for reason in reasons] or [part.cost(traits) for part in refinement.parts]
    notes += [note for note in dict.fromkeys(said) if note and note not in notes]
    numbers = [str(notes.index(note) + 1) for note in dict.fromkeys(said) if note]
    return " ".join(["no" if reasons else "yes", ", ".join(numbers)]).strip()


if __name__ == "__main__":
    sys.stdout.write(table(columns()) + "\n")
