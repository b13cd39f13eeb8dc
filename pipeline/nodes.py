"""Placement on a cluster: nodes are selected by a resource or by a label."""

from typing import Any

from models.errors import InputError

SLIVER = 0.001
"""Amount that an actor takes of a resource that only marks nodes: small enough for thousands of actors on each."""


def placed(nodes: str) -> dict[str, Any]:
    """Convert "NAME" (a resource) or "KEY=VALUE" (a label) to options of Ray actors; "" (any node) gives {}.

    Raises InputError for a label without a key or a value.
    """
    key, is_label, value = nodes.partition("=")
    if not nodes:
        return {}
    if not key or (is_label and not value):
        raise InputError(f"nodes {nodes!r}: expected the name of a resource, or KEY=VALUE of a label")
    return {"label_selector": {key: value}} if is_label else {"resources": {key: SLIVER}}
