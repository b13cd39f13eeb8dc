"""The manifests of deploy/kuberay as `kubectl apply -k` would send them: the patch of jobs is in each job."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kuberay"


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each document with the name of its file, jobs with their cluster."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    patches = [
        (yaml.safe_load((FOLDER / p["path"]).read_text()), p["target"]["kind"]) for p in kustomization["patches"]
    ]
    named = {patch["path"] for patch in kustomization["patches"]} | {"kustomization.yaml"}
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in (
            yaml.safe_load_all(path.read_text()) if path.name not in {*patches, "kustomization.yaml"} else ()
        ):
            for patch, kind in patches.values():
                if document["kind"] == kind:
                    document["spec"] = merged(document["spec"], patch["spec"])
            yield path.name, document


def merged(value: Any, patch: Any) -> Any:
    """Merge a patch as JSON's merge patches are (RFC 7386); lists are replaced."""
    if not isinstance(patch, Mapping):
        return patch
    value = dict(value) if isinstance(value, Mapping) else {}
    return value | {key: merged(value.get(key), part) for key, part in patch.items() if part is not None}
