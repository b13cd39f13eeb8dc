"""Cut KubeRay's schemas down to the fields that deploy/kuberay uses, so that a clone can check them.

`python -m tests.deploy.reduce_schemas FOLDER` reads ray.io_*.yaml, the custom resource definitions of KubeRay
(github.com/ray-project/kuberay, ray-operator/config/crd/bases, Apache-2.0), and writes tests/deploy/schemas/KIND.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.manifests import documents

SCHEMAS = Path(__file__).parent / "schemas"
SOURCE = "KubeRay's custom resource definitions (github.com/ray-project/kuberay), Apache-2.0, cut down to what is used"
FREE = "x-kubernetes-preserve-unknown-fields"
KEPT = ("type", "enum", "minimum", "maximum", "pattern", "required", "maxLength", "minLength", "format")


def reduced(schema: dict[str, Any], values: list[Any]) -> dict[str, Any]:
    """Return the part of a schema that covers the fields of `values`, with other fields forbidden."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {key: schema[key] for key in KEPT if key in schema}
    if "properties" in schema:
        objects = [value for value in values if isinstance(value, dict)]
        used = {key for value in objects for key in value} | set(schema.get("required", ()))
        out["properties"] = {
            key: reduced(part, [value[key] for value in objects if key in value])
            for key, part in sorted(schema["properties"].items())
            if key in used
        }
        if not schema.get(FREE):
            out["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        parts = [part for value in values if isinstance(value, dict) for part in value.values()]
        out["additionalProperties"] = reduced(schema["additionalProperties"], parts)
    if "items" in schema:
        out["items"] = reduced(schema["items"], [part for value in values if isinstance(value, list) for part in value])
    return out


def main(folder: Path) -> None:
    """Write a schema for each kind."""
    SCHEMAS.mkdir(exist_ok=True)
    for path in sorted(folder.glob("ray.io_*.yaml")):
        definition = yaml.safe_load(path.read_text())["spec"]
        kind = definition["names"]["kind"]
        (version,) = (each for each in definition["versions"] if each["name"] == "v1")
        used = [document for _, document in documents() if document["kind"] == kind]
        schema = reduced(version["schema"]["openAPIV3Schema"], used)
        schema["properties"]["metadata"] = {"type": "object"}
        text = json.dumps({"$comment": SOURCE, **schema}, indent=1)
        (SCHEMAS / f"{kind}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
