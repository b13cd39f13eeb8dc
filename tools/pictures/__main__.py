"""Draw the documentation's pictures into docs/pictures.

python -m tools.pictures FOLDER [NAME ...]      # FOLDER: skimage/data of scikit-image's wheel
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from tools.pictures import cascade, failures, focus, noc, page, prices, suem
from tools.pictures.photos import Photos

PICTURES: dict[str, Callable[[Photos, Path], None]] = {
    "suem": suem.draw,
    "cascade": cascade.draw,
    "focus": focus.draw,
    "prices": prices.draw,
    "noc": noc.draw,
    "page": page.draw,
    "failures": failures.draw,
}
"""Each picture's name and what draws it into a file."""

TO = Path(__file__).parents[2] / "docs/pictures"


def main() -> None:
    """Draw what was asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *PICTURES])
    asked = parser.parse_args()
    photos = Photos(asked.folder)
    for name in asked.names or PICTURES:
        PICTURES[name](photos, TO / f"{name}.jpg")
        print(TO / f"{name}.jpg")


if __name__ == "__main__":
    main()
