"""Examples of requests and answers for the OpenAPI document, one per schema, in the order of a session.

Tests validate each against its schema, and send the requests.
"""

from typing import Any

RLE = {"size": [4, 6], "counts": "92207"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAYAAAAECAIAAAAiZtkUAAAAFElEQVR4nGNsaGhgQAVMDBiAOCEAcHwBiASBU6IAAAAASUVORK5CYII="
"""A grey PNG of 6 x 4 pixels."""
VERSION = "simpleclick_vit_xtiny-0123456789ab"
CLICK = {"x": 4, "y": 2, "positive": True}
ID = "aKq3lW8dYtR0vB5nX2cM7pZ1sF4gH6jE"
MASK: dict[str, Any] = {
    "sequence": 1,
    "num_clicks": 1,
    "num_redo": 0,
    "mask": RLE,
    "area": 4,
    "bbox_xywh": [2, 1, 2, 2],
    "honoured": True,
    "milliseconds": 84.1,
    "model_version": VERSION,
    "num_objects": 0,
}
OBJECT = {"number": 1, "label": "car", "mask": RLE, "area": 4, "bbox_xywh": [2, 1, 2, 2], "clicks": [CLICK]}
OPENED = {
    "session_id": ID,
    "width": 6,
    "height": 4,
    "model": "default",
    "model_version": VERSION,
    "refinement": None,
    "mask_threshold": None,
    "expires_in_s": 3599,
}
BY_SCHEMA: dict[str, Any] = {
    "SessionRequest": {"image": PIXEL},
    "ClickRequest": {**CLICK, "sequence": 1},
    "ClickBody": CLICK,
    "ChangeRequest": {"sequence": 2},
    "SettingsRequest": {"mask_threshold": 0.4, "sequence": 3},
    "FinishRequest": {"label": "car", "sequence": 4},
    "AddRequest": {"mask": RLE, "label": "car", "clicks": [CLICK], "sequence": 5},
    "NumberRequest": {"number": 1, "sequence": 5},
    "PredictRequest": {"image": PIXEL, "clicks": [CLICK]},
    "SessionOpened": OPENED,
    "SessionState": {
        **OPENED,
        "image_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "has_initial_mask": False,
        "has_exemplar": False,
        "sequence": 1,
        "clicks": [CLICK],
        "num_redo": 0,
        "num_objects": 0,
    },
    "MaskAnswer": MASK,
    "MaskRle": RLE,
    "ObjectsAnswer": {**MASK, "sequence": 4, "num_objects": 1, "objects": [OBJECT]},
    "ObjectList": {"objects": [OBJECT]},
    "Passes": {"steps": [{"name": "first look", "mask": RLE, "num_changed": 4}]},
    "Models": {
        "models": [
            {
                "name": "default",
                "network": "simpleclick_vit_xtiny",
                "refinement": "cfr_4",
                "model_version": VERSION,
                "mask_threshold": 0.49,
                "refinements": ["standard", "cfr_4", "zoom_in"],
                "takes_exemplar": False,
                "default": True,
            }
        ]
    },
    "Health": {
        "status": "ok",
        "model_version": VERSION,
        "network": "simpleclick_vit_xtiny",
        "refinement": "cfr_4",
        "sessions": 3,
    },
    "Status": {"status": "ok"},
    "Export": {
        "info": {"description": f"masks by clicks, {VERSION}"},
        "images": [{"id": 1, "file_name": "photo.jpg", "width": 6, "height": 4}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": RLE,
                "area": 4,
                "bbox": [2, 1, 2, 2],
                "iscrowd": 0,
            }
        ],
    },
    "Examples": {"examples": [{"name": "street.jpg", "url": "v1/examples/street.jpg"}]},
    "ProblemBody": {
        "type": "urn:maskwright:problem:bad_click",
        "title": "The click cannot be used",
        "status": 422,
        "code": "bad_click",
        "detail": "the click (y=2, x=600) is outside the image of 4 x 6 pixels",
        "instance": "urn:uuid:0123456789abcdef0123456789abcdef",
        "pointer": "/x",
    },
}


def add_examples(schema: dict[str, Any]) -> None:
    """Add the examples of BY_SCHEMA to all bodies of an OpenAPI document with these schemas."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in (content for body in bodies for content in body.get("content", {}).values()):
                name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
                if name in BY_SCHEMA:
                    content["example"] = BY_SCHEMA[name]
