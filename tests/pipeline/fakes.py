"""A data set in memory (coloured rectangles, some items broken on purpose), and the replay of the SUEM fixture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.copy_paste import CopyPasteConfig, three_gates
from pipeline.data.objects import Selection, select_object
from pipeline.data.sample import BadItem, Item, Sample, pack_objects


@dataclass(frozen=True, kw_only=True)
class FakeReader:
    """`num_items` images of hw with three rectangles each; the numbered items misbehave as their field says."""

    num_items: int = 10
    hw: tuple[int, int] = (60, 80)
    bad: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()
    with_refused: tuple[int, ...] = ()

    def items(self) -> Sequence[Item]:
        return [
            Item(id=f"item{number:04d}", object_ids=("a", "b", "c"), payload={"number": number})
            for number in range(self.num_items)
        ]

    def load(self, item: Item) -> Sample:
        number = item.payload["number"]
        if number in self.bad:
            raise BadItem(item.id, "the file is cut short")
        if number in self.broken:
            raise OSError("disk on fire")
        return fake_sample(
            item.id,
            number,
            self.hw,
            empty=number in self.empty,
            refused=(f"object z of {item.id}: no pixels",) if number in self.with_refused else (),
        )


def fake_sample(
    sample_id: str, seed: int, hw: tuple[int, int] = (60, 80), *, empty: bool = False, refused: tuple[str, ...] = ()
) -> Sample:
    """Rectangles a, b (apart) and c (over a) on noise; b's value differs with the seed, so images tell themselves."""
    rng = np.random.default_rng(seed)
    height, width = hw
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes = {
        "a": (height // 8, height // 2, width // 8, width // 2),
        "b": (height // 2 + 2, height - 4, width // 2 + 2, width - 4),
        "c": (height // 4, 3 * height // 4, width // 4, 3 * width // 4),
    }
    masks = []
    for name, (top, bottom, left, right) in boxes.items():
        mask = np.zeros(hw, bool)
        mask[top:bottom, left:right] = True
        image[mask] = rng.integers(0, 256, 3)
        masks.append((name, "", mask))
    ignore = np.zeros(hw, bool)
    ignore[:3] = True
    return pack_objects(sample_id, image, [] if empty else masks, ignore, refused)


def parity_dir() -> Path | None:
    """Where the fixtures of the public implementations are: in the repository, beside it, or nowhere."""
    root = Path(__file__).parents[2]
    name = "ritm_simpleclick_cfricl"
    found = (root / "tests/parity/fixtures" / name, root.parent / "shared/parity" / name)
    return next((folder for folder in found if folder.is_dir()), None)


def replay_suem(case: dict[str, Any], arrays: Mapping[str, np.ndarray], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Run case `number` of the suem fixture through three_gates: the image and the target (uint8) that come out.

    Raises AssertionError if not exactly the recorded draws and partners are used.
    """
    samples = [
        pack_objects(str(i), arrays[f"c{number}_img{i}"], [("o", "", arrays[f"c{number}_mask{i}"] > 0)])
        for i in range(4)
    ]
    uniforms, partners = list(case["uniform_draws"]), list(case["partner_indices"])

    class Scripted:
        def random(self) -> float:
            return uniforms.pop(0)

        def integers(self, high: int, /) -> int:
            assert high == 3
            return case["second_stage_choice"]

    def only_object(sample: Sample) -> Selection:
        return select_object(sample, np.random.default_rng(0), 0, 1)

    pasted = three_gates(
        samples[0], lambda: samples[partners.pop(0)], only_object, Scripted(), CopyPasteConfig(recipe="three_gates")
    )
    assert not uniforms
    assert not partners
    return pasted.sample.image, pasted.sample.object_mask(pasted.sample.objects[0]).astype(np.uint8)
