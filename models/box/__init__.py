"""Models that ship with Maskwright: each folder here is a checkpoint, named `maskwright:NAME`."""

from pathlib import Path

from models.errors import lookup
from models.storage import fetched, is_address

SCHEME = "maskwright:"
DEFAULT = f"{SCHEME}lite_s"
"""The model that is used if no checkpoint is given."""
FOLDER = Path(__file__).parent
FILES = ("checkpoint.json", "weights.safetensors")
"""The files of a checkpoint."""


def models() -> dict[str, Path]:
    """Return the folders of the included models by `maskwright:NAME`."""
    folders = (path.parent for path in sorted(FOLDER.glob("*/checkpoint.json")))
    return {f"{SCHEME}{folder.name}": folder for folder in folders}


def is_name(source: str | Path) -> bool:
    """Whether a checkpoint is given as `maskwright:NAME`."""
    return str(source).startswith(SCHEME)


def resolve(source: str | Path) -> Path:
    """Return the folder of a checkpoint given as `maskwright:NAME`, as an address (s3://BUCKET/FOLDER) or as a folder.

    A checkpoint at an address is copied to this machine once. Raises InputError for an unknown name or an address that
    cannot be read.
    """
    if is_name(source):
        return lookup("model", str(source), models())
    return fetched(str(source), FILES) if is_address(source) else Path(source)
