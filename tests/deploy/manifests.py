"""The manifests of deploy/kuberay as `kubectl apply -k` sends them, with the patch for jobs merged into each job."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kuberay"


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each document with the name of its file; jobs include their cluster."""
    patches = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["patches"]
    others = {"kustomization.yaml", *(patch["path"] for patch in patches)}
    for path in sorted(path for path in FOLDER.glob("*.yaml") if path.name not in others):
        for document in yaml.safe_load_all(path.read_text()):
            for patch in patches:
                if document["kind"] == patch["target"]["kind"]:
                    added = yaml.safe_load((FOLDER / patch["path"]).read_text())
                    document["spec"] = merged(document["spec"], added["spec"])
            yield path.name, document


def merged(value: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386), which replaces lists."""
    if not isinstance(patch, Mapping):
        return patch
    value = dict(value) if isinstance(value, Mapping) else {}
    return value | {key: merged(value.get(key), part) for key, part in patch.items() if part is not None}
