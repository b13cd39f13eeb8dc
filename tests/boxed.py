"""A fixture that replaces the models in the box by one small model under the same name."""

from pathlib import Path

import pytest

from models import box, checkpoint
from models.refinement import named, to_dict
from tests.training.tiny import tiny_network


@pytest.fixture
def boxed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of maskwright:lite_s, here a network of 32 x 32 pixels that recommends zoom_in."""
    monkeypatch.setattr(box, "FOLDER", tmp_path / "box")
    refinement = to_dict(named("zoom_in"))
    return checkpoint.save(tiny_network(), tmp_path / "box" / "lite_s", photos=(7, 8), refinement=refinement)
