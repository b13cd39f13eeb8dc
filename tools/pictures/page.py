"""A labelling session in the page, frame by frame: open, click, correct, finish, the next object."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import httpx
import numpy as np

from tests.ports import free_port
from tests.serve.browser import Page, chromium
from tools.pictures.panels import row
from tools.pictures.photos import Photos

WIDTH, HEIGHT = 1280, 800


def draw(photos: Photos, path: Path) -> None:
    """Draw six frames of a session on `coffee`."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").mkdir()
        picture = cv2.cvtColor(photos.photo("coffee"), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(Path(folder) / "examples/coffee.png"), picture)
        port = free_port()
        command = [sys.executable, "-m", "serve", "--plain", "--port", str(port), "--examples", f"{folder}/examples"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                address = f"http://127.0.0.1:{port}"
                wait(address)
                with chromium(Path(folder) / "profile", address, WIDTH, HEIGHT) as page:
                    row(frames(page, Path(folder)), path, columns=3, width=4.2)
            finally:
                server.terminate()


def wait(address: str, seconds: float = 120) -> None:
    """Wait until the server is ready."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/v1/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"{address} is not ready after {seconds} s")


def frames(page: Page, folder: Path) -> list[tuple[str, np.ndarray]]:
    """Work in the page, and return a titled screenshot after each step."""
    taken: list[tuple[str, np.ndarray]] = []

    def take(title: str) -> None:
        time.sleep(2.5)  # masks arrive, and animations end
        page.screenshot(folder / "frame.png")
        taken.append((title, cv2.cvtColor(cv2.imread(str(folder / "frame.png")), cv2.COLOR_BGR2RGB)))

    page.wait("document.querySelectorAll('#examples button').length === 1")
    take("1. Choose an image")
    page.press("#examples button")
    time.sleep(4)
    left, top, scale = on_image(page)

    def click(x: int, y: int, button: str = "left") -> None:
        page.click(left + x * scale, top + y * scale, button)

    click(310, 120)
    take("2. Click on the object")
    click(100, 250, "right")
    take("3. Right-click where the mask is too large")
    page.key("Enter")
    take("4. Enter finishes the object")
    click(160, 330)
    take("5. Click on the next one")
    page.key("Enter")
    take("6. Export masks, polygons or COCO")
    return taken


def on_image(page: Page) -> tuple[float, float, float]:
    """Return where the image's upper left corner is on the page, and the screen pixels per image pixel."""
    box = page.eval(
        "(() => { const box = document.querySelector('#mask-layer').getBoundingClientRect();"
        "return [box.x, box.y, box.width, box.height]; })()"
    )
    scale = min(box[2] / 600, box[3] / 400)
    return box[0] + (box[2] - 600 * scale) / 2, box[1] + (box[3] - 400 * scale) / 2, scale
