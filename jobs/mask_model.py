"""A registered model as an MLflow pyfunc: image and clicks to mask, with the field names of `POST /v1/predict`.

MLflow copies this file next to the checkpoint of the registered version, and `models/` into its `code/`. Loading the
version (`mlflow.pyfunc.load_model`, `mlflow models serve`) needs neither this repository nor Ray.
"""

import base64
import binascii
import io
import logging
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.models import Model, ModelSignature, set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array, Object, Property
from PIL import Image, ImageOps

import models
from models import rle
from models.box import FILES
from models.decoding import AS_IT_COMES
from models.errors import InputError
from models.image_files import opened
from models.pixels import eight_bit
from models.predictor import Predictor

FORMATS = ("JPEG", "PNG", "WEBP")
PACKAGES = ("numpy", "opencv-python-headless", "pillow", "safetensors", "timm", "torch", "torchvision")
"""Packages that inference imports, besides those that MLflow requires."""
CLICK = Object(
    [
        # MLflow refuses the JSON number 64 for a double, so any type is declared; `Session.add` checks for numbers.
        Property("x", AnyType()),
        Property("y", AnyType()),
        Property("positive", DataType.boolean, required=False),
    ]
)
MASK = Object([Property("size", Array(DataType.long)), Property("counts", DataType.string)])
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "image"), ColSpec(Array(CLICK), "clicks")]),
    outputs=Schema(
        [
            ColSpec(MASK, "mask"),
            ColSpec(DataType.string, "png"),
            ColSpec(DataType.long, "area"),
            ColSpec(Array(DataType.long), "bbox_xywh"),
            ColSpec(DataType.boolean, "honoured"),
            ColSpec(DataType.string, "model_version"),
        ]
    ),
)


class MaskModel(PythonModel):
    """Segments each row from its image and clicks, without state between rows."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the checkpoint next to this file."""
        self.predictor = Predictor(Path(__file__).parent, device="cuda" if torch.cuda.is_available() else "cpu")

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  (MLflow's own has no types)
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Segment one object per row.

        `image`: base64 (or a data URI) of a JPEG, PNG or WebP file; `clicks`: a list of {x, y, positive = true}, in
        pixels of the image as displayed. Raises InputError if the image cannot be read or a click is outside it.
        """
        rows = zip(model_input["image"], model_input["clicks"], strict=True)
        return pd.DataFrame([self._answer(decode(image), clicks) for image, clicks in rows])

    def _answer(self, image: np.ndarray, clicks: list[dict[str, Any]]) -> dict[str, Any]:
        session = self.predictor.open(image)
        for click in clicks:
            positive = click.get("positive")
            session.add(click["y"], click["x"], True if positive is None else positive)
        runs = session.runs
        area, box = rle.area_and_box(runs, session.hw[0])
        return {
            "mask": rle.of_runs(runs, session.hw),
            "png": png(session.mask),
            "area": area,
            "bbox_xywh": box,
            "honoured": session.honoured if len(clicks) else None,
            "model_version": self.predictor.model_version,
        }


def decode(text: str) -> np.ndarray:
    """Decode base64 of an image file to uint8 RGB (h, w, 3), upright as its EXIF data says; raises InputError."""
    try:
        data = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
        with opened(data, FORMATS, AS_IT_COMES.max_pixels) as image:
            return np.array(ImageOps.exif_transpose(eight_bit(image, data)).convert("RGB"))
    except (binascii.Error, ValueError, OSError) as error:
        raise InputError(f"the image cannot be read: {error}; expected base64 of a JPEG, PNG or WebP file") from error


def png(mask: np.ndarray) -> str:
    """Encode a bool mask (h, w) as base64 of a one-bit PNG: black outside, white inside."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def example() -> pd.DataFrame:
    """Return a row to try the model with: a disk on a plain background, clicked in the middle."""
    y, x = np.mgrid[:96, :128]
    disk = np.where(((y - 48) ** 2 + (x - 64) ** 2 < 32**2)[..., None], (200, 60, 40), (90, 120, 90)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(disk).save(stream, "PNG")
    image = base64.b64encode(stream.getvalue()).decode()
    return pd.DataFrame({"image": [image], "clicks": [[{"x": 64.0, "y": 48.0, "positive": True}]]})


def write(folder: Path, run_id: str) -> None:
    """Write the files that make a run's checkpoint an MLflow model, except the checkpoint, into a new folder."""
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # it logs every step
    with tempfile.TemporaryDirectory() as temporary:
        code = Path(temporary) / "models"
        shutil.copytree(Path(models.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__", *FILES))
        mlflow.pyfunc.save_model(
            folder,
            mlflow_model=Model(artifact_path="checkpoint", run_id=run_id),
            python_model=__file__,
            code_paths=[str(code)],
            signature=SIGNATURE,
            input_example=example(),
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", *PACKAGES)],
        )


set_model(MaskModel())
