"""Pictures of sessions: the image, the mask tinted, the object's true outline, the clicks in order."""

import cv2
import numpy as np

from models.interaction import Clicks

TINT = (32, 110, 240)
OUTLINE = (255, 255, 255)
POSITIVE, NEGATIVE = (30, 170, 70), (215, 40, 50)


def overlay(
    image: np.ndarray, mask: np.ndarray, object_mask: np.ndarray | None, clicks: Clicks, *, longest_side: int = 480
) -> np.ndarray:
    """Draw a session on its image, uint8 RGB, resized so that its longest side is `longest_side`."""
    scale = longest_side / max(image.shape[:2])
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    picture = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    tinted = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    picture[tinted] = (0.5 * picture[tinted] + 0.5 * np.array(TINT)).astype(np.uint8)
    if object_mask is not None:
        truth = cv2.resize(object_mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(truth, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.drawContours(picture, contours, -1, OUTLINE, 1, cv2.LINE_AA)
    for number, ((y, x), positive) in enumerate(zip(clicks.yx, clicks.positive, strict=True), start=1):
        centre = (round((x + 0.5) * scale), round((y + 0.5) * scale))
        cv2.circle(picture, centre, 8, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, 7, POSITIVE if positive else NEGATIVE, -1, cv2.LINE_AA)
        text = str(number)
        (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)
        origin = (centre[0] - text_width // 2, centre[1] + text_height // 2)
        cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (255, 255, 255), 1, cv2.LINE_AA)
    return picture
