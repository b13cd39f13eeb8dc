"""SUEM copy-paste with scripted draws."""

from collections.abc import Iterator

import numpy as np

from pipeline.data.copy_paste import CopyPasteConfig, three_gates
from pipeline.data.objects import Selection
from pipeline.data.sample import Sample, pack_objects
from tests.parity.cases import Case, Deviations, Kind


class ScriptedDraws:
    """Answers draws from a list; asking for more than was recorded is an error."""

    def __init__(self, uniform: list[float], choice: int | None) -> None:
        self.uniform, self.choice = iter(uniform), choice

    def random(self) -> float:
        return next(self.uniform)

    def integers(self, high: int, /) -> int:
        assert high == 3
        assert self.choice is not None, "a mode was drawn where the public code drew none"
        return self.choice


def _sample(case: Case, index: int) -> Sample:
    mask = case.array(f"mask{index}") > 0
    return pack_objects(str(index), case.array(f"img{index}"), [("object", "", mask)])


def _select(sample: Sample) -> Selection:
    (ref,) = sample.objects
    mask = sample.object_mask(ref)
    return Selection((mask,), mask)


def replay(case: Case) -> Deviations:
    record = case.record
    drawn: list[int] = []
    partners: Iterator[int] = iter(record["partner_indices"])

    def draw_partner() -> Sample:
        drawn.append(next(partners))
        return _sample(case, drawn[-1])

    draws = ScriptedDraws(record["uniform_draws"], record["second_stage_choice"])
    pasted = three_gates(_sample(case, 0), draw_partner, _select, draws, CopyPasteConfig(recipe="three_gates"))
    assert list(draws.uniform) == [], "fewer draws than the public code makes"
    assert drawn == record["partner_indices"]
    assert np.array_equal(pasted.sample.image, case.array("out_img"))
    assert np.array_equal(_select(pasted.sample).target, case.array("out_mask") == 1)
    return {}


KIND = Kind(stem="suem.*", fields=frozenset({"uniform_draws", "partner_indices"}), replay=replay)
