"""Which nodes of a cluster something runs on: those with a resource, or with a label."""

from typing import Any

from models.errors import InputError

SLIVER = 0.001
"""What is taken of a resource that only marks its nodes: thousands find room on each."""


def placed(nodes: str) -> dict[str, Any]:
    """Read "NAME" (a resource) or "KEY=VALUE" (a label) as options of Ray's actors; {} for "", any node.

    Raises InputError for a label without a key or a value.
    """
    key, is_label, value = nodes.partition("=")
    if not nodes:
        return {}
    if not key or (is_label and not value):
        raise InputError(f"nodes {nodes!r}: expected the name of a resource, or KEY=VALUE of a label")
    return {"label_selector": {key: value}} if is_label else {"resources": {key: SLIVER}}
