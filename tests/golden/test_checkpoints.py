"""Golden checkpoints: every form of refinement is read, has the same meaning, and gives the same masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import rle
from models.predictor import Predictor
from models.refinement import named, to_dict
from tests.golden.asking import SPARE, lost

FORMS = ("none", "name", "sum", "dict", "recommended", "imported", "split", "exemplar")


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_gives_its_masks(golden: Path, form: str) -> None:
    known = json.loads((golden / "checkpoints.json").read_text())
    answer = known["answers"][form]
    predictor = Predictor(golden / "checkpoints" / form)
    assert predictor.refinement == named(answer["refinement"])
    assert lost(answer["refinement"], json.loads(json.dumps(to_dict(predictor.refinement)))) == []
    session = predictor.open(np.array(Image.open(golden / "scene.png").convert("RGB")))
    for (y, x, positive), mask in zip(known["clicks"], answer["masks"], strict=True):
        session.click(y, x, positive)
        assert (session.mask ^ rle.decode(mask)).sum() <= SPARE


def test_best_setting_of_a_sweep_is_a_refinement(golden: Path) -> None:
    best = golden / "sweep_final" / "best.json"
    refinement = Predictor(golden / "checkpoints" / "name", str(best)).refinement
    assert lost(json.loads(best.read_text()), to_dict(refinement)) == []


def test_forms_give_different_masks(golden: Path) -> None:
    """If all forms gave the same masks, the other tests would prove nothing."""
    answers = json.loads((golden / "checkpoints.json").read_text())["answers"]
    assert set(answers) == set(FORMS)
    different = {json.dumps(answer["masks"]) for answer in answers.values()}
    assert len(different) == len(FORMS) - 1  # a scene of this size is no larger than what zoom_in looks at
