"""Read MATLAB files (up to v7) whose variables hold label maps; every failure is a ValueError."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from models.decoding import Decoding
from models.image_files import check_size

# The largest published files are below 1 MB; compressed, they may hold a thousand times as much.
MAX_BYTES = 16 << 20


def read_variable(path: Path, name: str) -> np.ndarray:
    """Read one variable; raises ValueError if the file or the variable is missing or cannot be read.

    Structs and cells are arrays of Python objects, each of which is an array again. No code in the file is ever run.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"the file is larger than {MAX_BYTES >> 20} MiB")
        variables = loadmat(path, appendmat=False, variable_names=[name])
    except FileNotFoundError as error:
        raise ValueError("the file does not exist") from error
    # On broken bytes scipy raises many types, from TypeError to zlib.error; to a caller all mean the same.
    except Exception as error:
        raise ValueError(f"the file cannot be read as a MATLAB file up to v7 ({error})") from error
    if not isinstance(variables.get(name), np.ndarray):
        raise ValueError(f"the file holds no variable {name!r}")
    return variables[name]


def field(struct: Any, name: str) -> Any:
    """Return a field of a 1 x 1 struct; raises ValueError if it is something else or has no such field."""
    if not isinstance(struct, np.ndarray) or struct.size != 1 or name not in (struct.dtype.names or ()):
        raise ValueError(f"expected a struct with the field {name!r}")
    return struct[name].item()


def label_map(value: Any, decoding: Decoding) -> np.ndarray:
    """Check that `value` is a label map and return it as int64 (h, w); raises ValueError otherwise.

    A label map has two dimensions, no more pixels than an image may have, and whole values from 0 to 65535.
    """
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not value.size:
        raise ValueError(f"expected a label map (height x width), got the shape {np.shape(value)}")
    check_size((value.shape[1], value.shape[0]), decoding.max_pixels)
    if value.dtype.kind not in "buif":
        raise ValueError(f"expected a label map of whole numbers, got {value.dtype}")
    # Negated, so that NaN is refused too.
    if not (value.min() >= 0 and value.max() <= 65535) or (value != np.floor(value)).any():
        raise ValueError("expected a label map of whole numbers from 0 to 65535")
    return value.astype(np.int64)
