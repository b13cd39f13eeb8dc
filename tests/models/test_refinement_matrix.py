"""The networks and refinements of docs/REFINEMENTS.md, cell by cell, and in pairs and triples."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import InputError
from models.networks import NETWORKS
from models.predictor import Predictor
from models.refinement import Cascade, Refinement, ZoomIn, build, from_dict, to_dict, why_not
from models.refinement.matrix import column_of, columns, rows, table
from models.refinement.part import Slot
from tests.models.tiny import TINY_NETWORKS, photo

pytestmark = pytest.mark.networks
PAGE = Path(__file__).parents[2] / "docs/REFINEMENTS.md"

ROWS: dict[str, Refinement] = {
    **rows(),
    "zoom_in": Refinement((ZoomIn(min_crop_size=32),)),
    "cascade": Refinement((Cascade(steps=1, on_first_clicks=None),)),
}
SMALL = {
    "ritm": "ritm", "simpleclick": "simpleclick", "focuscut": "focuscut", "icmformer": "icmformer",
    "icmformer_swin": "icmformer swin", "icmformerpp": "icmformerpp", "emc": "emc segformer", "emc_vit": "emc vit",
    "sam, mobile_sam": "mobile_sam", "sam2": "sam2", "lite": "lite",
}  # fmt: skip


def documented() -> dict[tuple[str, str], bool]:
    """Return whether a network is allowed, by (part, family), according to the page."""
    lines = PAGE.read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, *rows = table[: next(i for i, row in enumerate(table) if row[0] == "name")]
    cells = {(row[0], family): cell for row in rows[1:] for family, cell in zip(head[1:], row[1:], strict=True)}
    assert all(cell.split()[0] in ("yes", "no") for cell in cells.values())
    return {place: cell.startswith("yes") for place, cell in cells.items()}


CELLS = documented()


def together(names: tuple[str, ...]) -> Refinement | None:
    """Combine the refinements of several rows; None if two set the same field or exclude each other."""
    settings: dict[str, Any] = {}
    for row in (ROWS[name] for name in names):
        settings |= {name: value for name, value in to_dict(row).items() if value != to_dict(Refinement())[name]}
    parts = [part for name in names for part in ROWS[name].parts]
    kinds = [type(part) for part in parts]
    places = sum(part.slot is Slot.PLACE for part in parts) + ("limit_longest_side" in settings)
    return None if len(set(kinds)) < len(kinds) or places > 1 else from_dict(settings)


def test_page_contains_the_generated_table() -> None:
    """`python -m models.refinement.matrix` writes it."""
    assert table(columns()) in PAGE.read_text()


def test_page_covers_every_part_and_every_family() -> None:
    assert {part for part, _ in CELLS} == set(ROWS)
    assert {family for _, family in CELLS} == set(SMALL) == {column_of(name) for name in NETWORKS}
    settings = set(Refinement().named_parts()) - {"mask_threshold"}
    usual = to_dict(Refinement())
    assert {key for row in ROWS.values() for key, value in to_dict(row).items() if value != usual[key]} == settings


@pytest.mark.parametrize("name", NETWORKS)
def test_page_agrees_with_every_network(name: str) -> None:
    with torch.device("meta"):
        traits = NETWORKS[name].build().traits
    for part, refinement in ROWS.items():
        reasons = why_not(refinement, traits)
        assert (not reasons) == CELLS[part, column_of(name)], (part, reasons)
        assert all(": " in reason for reason in reasons), "says what is refused, and why"
        if reasons:
            with pytest.raises(InputError):
                build(refinement, traits)


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("num", [2, 3])
def test_parts_allowed_alone_can_be_combined(family: str, num: int) -> None:
    traits = TINY_NETWORKS[SMALL[family]]().traits
    allowed = [part for part in ROWS if CELLS[part, family]]
    built = 0
    for names in itertools.combinations(allowed, num):
        if (refinement := together(names)) is not None:
            build(refinement, traits)
            built += 1
    assert built >= 10


@pytest.mark.parametrize("family", SMALL)
def test_every_allowed_cell_answers_clicks(family: str) -> None:
    answer_clicks(family, [(part,) for part in ROWS])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", SMALL)
def test_every_allowed_pair_and_triple_answers_clicks(family: str) -> None:
    answer_clicks(family, [names for num in (2, 3) for names in itertools.combinations(ROWS, num)])


def answer_clicks(family: str, combinations: list[tuple[str, ...]]) -> None:
    """Answer clicks with and without a given mask: probabilities have the image's size, repeat, and differ."""
    network = TINY_NETWORKS[SMALL[family]]()
    image, object_mask = photo((110, 130))
    start = object_mask.copy()
    start[:, 65:] = False
    for names in combinations:
        refinement = together(names)
        if refinement is None or not all(CELLS[name, family] for name in names):
            continue
        predictor = Predictor(network, refinement)
        answers = []
        for mask in (None, start):
            session = predictor.open(image, mask)
            first = session.click(60, 70)
            prob = session.click(8, 9.5, False)
            assert prob.shape == (110, 130), names
            assert np.isfinite(prob).all(), names
            assert prob.min() >= 0, names
            assert prob.max() <= 1, names
            answers.append(first)
        if network.traits.prev_mask != "binary" or "cascade" not in names:
            # A binary mask may be lost in a pass that finds nothing.
            assert not np.array_equal(*answers), (names, "a given mask must matter")
