"""Metrics of mask borders, by FocusCut's definitions. Masks are bool (h, w).

Definitions: docs/PAPERS.md, FocusCut: robot user and metrics. Neither metric has ignored pixels: as published, they
count as background, and a prediction that covers them is penalised. IoU leaves them out.
"""

import cv2
import numpy as np
from scipy import ndimage

BAND = 0.02
"""Width of BIoU's band, as a fraction of the image's diagonal."""


def biou(mask: np.ndarray, object_mask: np.ndarray) -> float:
    """Boundary IoU: IoU of the bands inside both masks' borders; nan if both masks are empty.

    The band's width depends on the diagonal of the image, not of the object: an object thinner than two bands is all
    band, and its BIoU is its IoU. The edge of the image counts as a border.
    """
    width = max(1, round(BAND * float(np.hypot(*mask.shape))))
    bands = [_band(each, width) for each in _cut(mask, object_mask)]
    union = (bands[0] | bands[1]).sum()
    return float((bands[0] & bands[1]).sum() / union) if union else float("nan")


def assd(mask: np.ndarray, object_mask: np.ndarray) -> float:
    """Average symmetric surface distance in pixels, from each border pixel of either mask to the other mask's border.

    Borders are outer contours, one pixel wide. Holes have no contour, so filling a hole costs nothing. The mean is over
    both masks' border pixels together, so the longer border weighs more. If one mask is empty, the distance is the
    image's diagonal: leaving such objects out would reward predicting nothing. If both are empty, it is nan.
    """
    if not (mask.any() and object_mask.any()):
        return float(np.hypot(*mask.shape)) if mask.any() or object_mask.any() else float("nan")
    ours, theirs = (_contour(each) for each in _cut(mask, object_mask))
    distances = np.concatenate([_distances_to(theirs)[ours], _distances_to(ours)[theirs]])
    return float(distances.mean())


def _cut(*masks: np.ndarray) -> list[np.ndarray]:
    """Crop the masks to the box that they cover together; the metrics do not depend on the rest of the image."""
    covered = np.logical_or.reduce(masks)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    if not len(rows):
        return list(masks)
    return [mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] for mask in masks]


def _band(mask: np.ndarray, width: int) -> np.ndarray:
    padded = np.pad(mask, 1).astype(np.uint8)
    eroded = cv2.erode(
        padded,
        np.ones((3, 3), np.uint8),
        iterations=width,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return mask & (eroded[1:-1, 1:-1] == 0)


def _contour(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(drawn, contours, -1, 1, thickness=1)
    return drawn > 0


def _distances_to(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.distance_transform_edt(~pixels))
