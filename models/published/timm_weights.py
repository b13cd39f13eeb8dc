"""Load timm's pre-trained weights of a backbone, from timm's cache or the internet."""

from typing import Any

import timm

from models.errors import InputError
from models.networks.lite import Lite
from models.published.family import UNKNOWN_LICENCE


def load_pretrained(network: Lite) -> dict[str, Any]:
    """Load timm's weights into a network's backbone, in place; returns their source, for a checkpoint's `info`.

    Raises InputError if timm has no weights for it, or they cannot be downloaded.
    """
    backbone = network.config.backbone
    try:
        trunk: Any = timm.create_model(backbone, features_only=True, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"timm's weights of {backbone} cannot be loaded ({reason}): without internet, copy a file with them here, "
            f"run `python -m jobs.import_checkpoint FILE --network {network.name} --as backbone --backbone {backbone} "
            "--out START`, and pass --network.start-from START instead of --network.pretrained"
        ) from error
    network.image_encoder.trunk.load_state_dict(trunk.state_dict())
    given = trunk.pretrained_cfg
    name = ".".join(filter(None, (given["architecture"], given.get("tag"))))
    return {"source": {"timm": name, "as": "backbone"}, "licence": given.get("license") or UNKNOWN_LICENCE}
