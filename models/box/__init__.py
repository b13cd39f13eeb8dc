"""Models that come with Maskwright: each folder here is a checkpoint, and `maskwright:NAME` names it."""

from pathlib import Path

from models.errors import lookup

SCHEME = "maskwright:"
DEFAULT = f"{SCHEME}lite_s"
"""The model that is used where no checkpoint is given."""
FOLDER = Path(__file__).parent


def models() -> dict[str, Path]:
    """The models in the box: their folders, by `maskwright:NAME`."""
    folders = (path.parent for path in sorted(FOLDER.glob("*/checkpoint.json")))
    return {f"{SCHEME}{folder.name}": folder for folder in folders}


def is_name(source: str | Path) -> bool:
    """Whether a checkpoint is given by name, not by its folder."""
    return str(source).startswith(SCHEME)


def resolve(source: str | Path) -> Path:
    """Return the folder of a checkpoint that is given by name or as a folder; raises InputError for an unknown name."""
    return lookup("model", str(source), models()) if is_name(source) else Path(source)
