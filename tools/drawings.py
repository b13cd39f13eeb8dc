"""Render docs/drawings/*.dot as docs/pictures/*.svg, with Graphviz.

    python -m tools.drawings     # needs `dot` (Debian: apt-get install graphviz)

Each picture carries the digest of its source, so that a test finds a picture that is out of date without Graphviz.
"""

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "docs/drawings"
PICTURES = ROOT / "docs/pictures"


def mark(source: Path) -> str:
    """Return the comment that a source's picture begins with."""
    return f"<!-- {source.name} {hashlib.sha256(source.read_bytes()).hexdigest()[:16]} -->\n"


def main() -> None:
    """Render every drawing."""
    for source in sorted(SOURCES.glob("*.dot")):
        svg = subprocess.run(["dot", "-Tsvg", source], capture_output=True, text=True, check=True).stdout
        picture = PICTURES / source.with_suffix(".svg").name
        picture.write_text(mark(source) + svg[svg.index("<svg") :])
        print(picture.relative_to(ROOT))


if __name__ == "__main__":
    main()
