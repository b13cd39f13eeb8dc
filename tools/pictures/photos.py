"""The photos that pictures are drawn on: scikit-image's `coffee`, `chelsea`, `astronaut`, `rocket` and `coins`.

`coffee` (Rachel Michetti) and `chelsea` (Stéfan van der Walt) are CC0; `astronaut` is NASA's and `rocket` SpaceX's,
in the public domain or CC0; `coins` is of the Brooklyn Museum, without known restrictions.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from models.predictor import Predictor


@dataclass(frozen=True)
class Photos:
    """A folder with the photos, and the model in the box to make masks on them."""

    folder: Path

    @cached_property
    def predictor(self) -> Predictor:
        """`maskwright:lite_s`, loaded once."""
        return Predictor()

    def photo(self, name: str, width: int = 600) -> np.ndarray:
        """Return a photo as uint8 RGB (height, width, 3), scaled to a width in pixels."""
        found = sorted(self.folder.glob(f"{name}.*"))
        if not found:
            raise SystemExit(f"{self.folder} has no {name}: expected the folder skimage/data of scikit-image's wheel")
        image = cv2.cvtColor(cv2.imread(str(found[0])), cv2.COLOR_BGR2RGB)
        height = round(image.shape[0] * width / image.shape[1])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

    def mask(self, image: np.ndarray, *clicks: tuple[int, int, bool]) -> np.ndarray:
        """Return the mask bool (height, width) after clicks (x, y, positive), in pixels."""
        session = self.predictor.open(image)
        for x, y, positive in clicks:
            session.click(y=y, x=x, positive=positive)
        return session.mask
