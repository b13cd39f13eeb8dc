"""Models that come with Maskwright: each folder here is a checkpoint, and `maskwright:NAME` names it."""

from pathlib import Path

from models.errors import lookup
from models.storage import fetched, is_address

SCHEME = "maskwright:"
DEFAULT = f"{SCHEME}lite_s"
"""The model that is used where no checkpoint is given."""
FOLDER = Path(__file__).parent
FILES = ("checkpoint.json", "weights.safetensors")
"""What a checkpoint is made of."""


def models() -> dict[str, Path]:
    """The models in the box: their folders, by `maskwright:NAME`."""
    folders = (path.parent for path in sorted(FOLDER.glob("*/checkpoint.json")))
    return {f"{SCHEME}{folder.name}": folder for folder in folders}


def is_name(source: str | Path) -> bool:
    """Whether a checkpoint is given by name, not by its folder."""
    return str(source).startswith(SCHEME)


def resolve(source: str | Path) -> Path:
    """Return the folder of a checkpoint that is given by name, by address (s3://BUCKET/FOLDER) or as a folder.

    What lies at an address is copied to this machine once. Raises InputError for an unknown name, or an address that
    cannot be read.
    """
    if is_name(source):
        return lookup("model", str(source), models())
    return fetched(str(source), FILES) if is_address(source) else Path(source)
