"""A real Label Studio and a real Maskwright server, from the project to the export: make test-label-studio.

    .venv-label-studio/bin/python -m tests.clients.label_studio_end_to_end [--checkpoint FOLDER] [--image FILE]

Both run on free ports with all their files in a temporary folder, and end with the script. What comes out of Label
Studio's exports must be, pixel for pixel, the mask that the native interface gives for the same clicks.
"""

import argparse
import contextlib
import io
import json
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from label_studio_sdk.converter import brush
from PIL import Image, ImageDraw

from tests.clients.native import native_mask
from tests.clients.servers import our_server, process
from tests.ports import free_port

TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <KeyPointLabels name="click" toName="image" smart="true"><Label value="thing"/></KeyPointLabels>
  <BrushLabels name="mask" toName="image"><Label value="thing" background="#ff3300"/></BrushLabels>
</View>"""
USER, PASSWORD = "anna@example.org", "only-for-this-test"
MIN_IOU = 0.95  # Label Studio makes polygons of a mask for its COCO export, without holes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="folder; by default a small untrained network is made")
    parser.add_argument("--image", type=Path, help="PNG file to click on; by default a drawn one")
    options = parser.parse_args()
    start = time.monotonic()
    # A script that is ended from outside must end what it started: an exception does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            run(Path(folder), options, stack)
    except (AssertionError, httpx.HTTPError) as error:
        sys.exit(f"FAILED after {time.monotonic() - start:.0f} s: {error}")
    print(f"OK in {time.monotonic() - start:.0f} s: Label Studio's exports hold the native interface's mask")


def run(folder: Path, options: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    picture = options.image.read_bytes() if options.image else drawn()
    width, height = Image.open(io.BytesIO(picture)).size
    # In the middle, then beside it: two clicks, so that the order and the sign count.
    clicks = ((width // 2, height // 2, True), (width // 8, height // 8, False))

    studio = stack.enter_context(label_studio(folder / "studio"))
    say("Label Studio answers", studio)
    host = studio.removeprefix("http://")
    reach = ("--label-studio-url", studio, "--image-hosts", host, "--image-networks", "127.0.0.0/8")
    ours = stack.enter_context(our_server(folder, *reach, checkpoint=options.checkpoint, LABEL_STUDIO_API_KEY=TOKEN))
    say("our server answers", ours)
    client = stack.enter_context(
        httpx.Client(base_url=studio, headers={"Authorization": f"Token {TOKEN}"}, trust_env=False, timeout=120)
    )

    project = ask(client, "POST", "/api/projects", json={"title": "Clicks", "label_config": CONFIG})["id"]
    say("project made", project)
    ask(client, "POST", f"/api/projects/{project}/import", files={"file": ("photo.png", picture, "image/png")})
    [task] = ask(client, "GET", "/api/tasks", params={"project": project, "fields": "all"})["tasks"]
    url = task["data"]["image"]
    check(url.startswith("/data/upload/"), f"the task's image is {url}: expected one that Label Studio keeps")
    stranger = httpx.get(studio + url, trust_env=False).status_code
    check(
        stranger in (302, 401, 403), f"without a token the image is answered with {stranger}: the token proves nothing"
    )
    say("image uploaded as task", f"{task['id']}, {url}; without a token {stranger}")

    body = {"url": f"{ours}/ls", "project": project, "title": "Maskwright", "is_interactive": True}
    backend = ask(client, "POST", "/api/ml", json=body)
    check(backend["state"] == "CO", f"the model's state is {backend['state']}: expected CO, connected")
    say("model connected", f"{backend['id']}, version {backend.get('model_version')}")

    region = None
    for number in (1, 2):
        context = {"result": [key_point(width, height, *click) for click in clicks[:number]]}
        answer = ask(
            client,
            "POST",
            f"/api/ml/{backend['id']}/interactive-annotating",
            json={"task": task["id"], "context": context},
        )
        check("errors" not in answer, f"Label Studio got no prediction: {answer.get('errors')}")
        [region] = answer["data"]["result"]
        expected = native_mask(ours, picture, *clicks[:number])
        same(pixels_of(region["value"]["rle"], height, width), expected, f"prediction of {number} clicks")
    annotation = ask(
        client, "POST", f"/api/tasks/{task['id']}/annotations", json={"result": [region], "lead_time": 1.0}
    )
    say("annotation saved", annotation["id"])

    expected = native_mask(ours, picture, *clicks)
    compare_exports(client, project, expected)


def compare_exports(client: httpx.Client, project: int, expected: np.ndarray) -> None:
    """Every export that holds masks: JSON and PNG exactly; COCO, which has polygons, roughly."""
    height, width = expected.shape
    [exported] = ask(client, "GET", f"/api/projects/{project}/export", params={"exportType": "JSON"})
    [[region]] = [annotation["result"] for annotation in exported["annotations"]]
    check(region["value"]["brushlabels"] == ["thing"], f"the label is {region['value']}")
    same(pixels_of(region["value"]["rle"], height, width), expected, "JSON export")

    png = download(client, project, "BRUSH_TO_PNG", ".png")
    same(np.array(Image.open(io.BytesIO(png))) > 0, expected, "PNG export")
    numpy = download(client, project, "BRUSH_TO_NUMPY", ".npy")
    same(np.load(io.BytesIO(numpy), allow_pickle=False) > 0, expected, "NumPy export")

    coco = json.loads(download(client, project, "BRUSH_TO_COCO", ".json"))
    [size] = [(image["height"], image["width"]) for image in coco["images"]]
    check(size == (height, width), f"COCO export: the image is {size}, expected {(height, width)}")
    rough = Image.new("1", (width, height))
    for entry in coco["annotations"]:
        for polygon in entry["segmentation"]:
            ImageDraw.Draw(rough).polygon(polygon, fill=1, outline=1)
    found = np.array(rough)
    iou = (found & expected).sum() / (found | expected).sum()
    check(iou >= MIN_IOU, f"COCO export: its polygons have IoU {iou:.3f} with the native mask, expected {MIN_IOU}")
    say("COCO export", f"polygons of IoU {iou:.3f} with the native mask")


def key_point(width: int, height: int, x: int, y: int, positive: bool) -> dict[str, Any]:
    """A click on a pixel, as the page sends one of a smart tool."""
    return {
        "id": f"click-{x}-{y}",
        "type": "keypointlabels",
        "from_name": "click",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "is_positive": positive,
        "value": {
            "x": (x + 0.5) / width * 100,
            "y": (y + 0.5) / height * 100,
            "width": 0.3,
            "keypointlabels": ["thing"],
            "labels": ["thing"],
        },
    }


def pixels_of(rle: list[int], height: int, width: int) -> np.ndarray:
    """A brush as Label Studio's own SDK reads it."""
    return brush.decode_rle(rle).reshape(height, width, 4)[..., 3] > 0


def same(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    check(found.shape == expected.shape, f"{what}: {found.shape} pixels, expected {expected.shape}")
    check(
        np.array_equal(found, expected), f"{what}: {int((found != expected).sum())} pixels differ from the native mask"
    )
    say(what, f"equal to the native mask: {int(expected.sum())} of {expected.size} pixels")


@contextlib.contextmanager
def label_studio(folder: Path) -> Iterator[str]:
    """Label Studio from this environment, on SQLite in `folder`, with one user and a legacy token."""
    folder.mkdir()
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("label-studio")), "start", "--no-browser", "--port", str(port)]
    command += ["--data-dir", str(folder), "--internal-host", "127.0.0.1", "--username", USER, "--password", PASSWORD]
    command += ["--user-token", TOKEN, "--enable-legacy-api-token"]
    # Our server is on this machine, which Label Studio otherwise refuses to call: as a model, and by the webhook that
    # it makes for each model.
    allowed = {"ML_BLOCK_LOCAL_IP": "false", "SSRF_PROTECTION_ENABLED": "false"}
    variables = allowed | {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false"}
    with process(command, f"{address}/health", folder / "label-studio.log", 240, **variables):
        yield address


def ask(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    answer = client.request(method, path, **options)
    check(answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}")
    return answer.json()


def download(client: httpx.Client, project: int, kind: str, ending: str) -> bytes:
    """The one file of an export whose name has the ending; a single file comes as it is, several as an archive."""
    answer = client.get(f"/api/projects/{project}/export", params={"exportType": kind})
    check(answer.is_success, f"export as {kind}: {answer.status_code} {answer.text[:500]}")
    if not zipfile.is_zipfile(io.BytesIO(answer.content)):
        return answer.content
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = [name for name in archive.namelist() if name.endswith(ending)]
        check(len(names) == 1, f"export as {kind}: {archive.namelist()}, expected one file *{ending}")
        return archive.read(names[0])


def drawn() -> bytes:
    """A disc on noise, as PNG; its sides differ, so that exchanged axes show."""
    noise = np.random.default_rng(0).integers(0, 90, (120, 184, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    ImageDraw.Draw(image).ellipse((60, 30, 124, 90), fill=(230, 200, 60))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def check(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def say(what: str, more: object) -> None:
    print(f"  {what}: {more}", flush=True)


if __name__ == "__main__":
    main()
