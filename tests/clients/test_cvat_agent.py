"""The agent's function in cvat-cli's own hands: its loader, its driver with its cache, its worker process."""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cvat_cli._internal.agent import RecoverableExecutor, _worker_init, get_function_driver_class
from cvat_cli._internal.agent_driver import BadArError, IncompatibleFunctionError, set_worker_current_function
from cvat_cli._internal.agent_driver_interaction import AgentInteractionFunctionDriver
from cvat_cli._internal.common import FunctionLoader
from cvat_sdk.masks import decode_mask
from PIL import Image

from tests.clients.conftest import HEIGHT, WIDTH
from tests.clients.native import native_mask
from tests.clients.servers import ROOT

FILE = ROOT / "serve" / "faces" / "cvat_agent.py"
Points = list[list[float]]


class HereExecutor:
    """The agent's executor without its process."""

    def submit(self, call: Callable[..., Any], *args: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def result(self, future: "Future[Any]") -> Any:
        return future.result()


class Driver(AgentInteractionFunctionDriver):
    """The driver, with an image at hand instead of a task in CVAT."""

    image: Image.Image

    def _get_sample_from_ar_params(self, ar_params: dict[str, Any]) -> Any:
        return SimpleNamespace(media=SimpleNamespace(load_image=lambda: self.image)), None

    def shapes(self, positive: Points, negative: Points | None = None, **more: Any) -> list[dict[str, Any]]:
        asked = {"type": "interact", "task": 1, "frame": 0, "pos_points": positive, "neg_points": negative or []}
        return self.calculate_result_for_ar(asked | {"obj_bbox": []} | more, lambda **_: None)["shapes"]

    def mask(self, positive: Points, negative: Points | None = None, **more: Any) -> np.ndarray:
        [shape] = self.shapes(positive, negative, **more)
        assert shape["type"] == "mask"
        width, height = more.pop("size", (WIDTH, HEIGHT))
        return decode_mask(shape["points"], image_width=width, image_height=height)


@contextlib.contextmanager
def fake_cvat() -> Iterator[Any]:
    """A CVAT that knows logging in and making functions."""
    created: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Set-Cookie", "sessionid=1")
            self.send_header("Set-Cookie", "csrftoken=1")
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            about = {"name": "CVAT", "description": "", "version": "2.80.0", "logo_url": "", "subtitle": ""}
            self._answer(200, about)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            if self.path.startswith("/api/auth"):
                return self._answer(200, {"key": "0" * 40})
            created.append(body)
            self._answer(201, {"id": 41, "name": body["name"]})

        def log_message(self, format: str, *args: object) -> None:
            print(format % args)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield SimpleNamespace(address=f"http://127.0.0.1:{server.server_port}", created=created)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def function(address: str) -> Any:
    """The function as cvat-cli loads it, counting what is uploaded."""
    loaded = FunctionLoader(None, FILE, {"url": address}).load()
    loaded.num_images = 0
    preprocess = loaded.preprocess_image

    def counted(context: object, image: Image.Image) -> Any:
        loaded.num_images += 1
        return preprocess(context, image)

    loaded.preprocess_image = counted
    return loaded


@pytest.fixture
def driver(function: Any, image: np.ndarray) -> Driver:
    assert get_function_driver_class(function.spec) is AgentInteractionFunctionDriver
    set_worker_current_function(function)
    Driver.init_worker(None)
    made = Driver(None, HereExecutor(), function.spec)
    made.image = Image.fromarray(image)
    return made


@pytest.mark.check(53)
def test_clicks_after_the_first_upload_nothing(driver: Driver, function: Any, address: str, image_file: bytes) -> None:
    calls = [
        ([[30.4, 20.6]], []),
        ([[30.4, 20.6]], [[8, 8]]),
        ([[30.4, 20.6], [50.2, 30.9]], [[8, 8]]),
        ([[30.4, 20.6], [50.2, 30.9]], []),
        ([[60, 40]], []),
    ]
    expected = [
        [(30, 20, True)],
        [(30, 20, True), (8, 8, False)],
        [(30, 20, True), (8, 8, False), (50, 30, True)],
        [(30, 20, True), (50, 30, True)],
        [(60, 40, True)],
    ]
    for call, clicks in zip(calls, expected, strict=True):
        np.testing.assert_array_equal(driver.mask(*call), native_mask(address, image_file, *clicks))
    assert function.num_images == 1
    driver.mask([[30.4, 20.6]], frame=1)
    assert function.num_images == 2


def test_part_of_a_frame(driver: Driver, function: Any, address: str, image: np.ndarray) -> None:
    cropped = Image.fromarray(image[10:40, 20:70])
    expected = native_mask(address, _png(cropped), (15, 12, True))
    mask = driver.mask([[15, 12]], roi=[20, 10, 70, 40], size=cropped.size)
    np.testing.assert_array_equal(mask, expected)


def test_a_session_that_the_server_lost(driver: Driver, function: Any, address: str, image_file: bytes) -> None:
    from serve.client import Client

    opened: list[Any] = []
    open_ = Client.open
    function._client.open = lambda image: opened.append(open_(function._client, image)) or opened[-1]
    driver.mask([[30, 20]])
    opened[0].close()
    expected = native_mask(address, image_file, (30, 20, True), (8, 8, False))
    np.testing.assert_array_equal(driver.mask([[30, 20]], [[8, 8]]), expected)
    assert (len(opened), function.num_images) == (2, 1)


def test_what_the_driver_refuses(driver: Driver) -> None:
    with pytest.raises(BadArError, match="not enough positive"):
        driver.shapes([])
    with pytest.raises(BadArError, match="bounding boxes"):
        driver.shapes([[30, 20]], obj_bbox=[[1, 1], [20, 20]])
    with pytest.raises(BadArError, match="unsupported type"):
        driver.shapes([[30, 20]], type="annotate")


def test_the_server_refuses_clicks_off_the_image(driver: Driver, address: str, image_file: bytes) -> None:
    from serve.client import ServerError

    with pytest.raises(ServerError, match="bad_click"):
        driver.shapes([[WIDTH + 3, 5]])
    corner = native_mask(address, image_file, (WIDTH - 1, HEIGHT - 1, True))
    np.testing.assert_array_equal(driver.mask([[WIDTH, HEIGHT]]), corner)


@pytest.mark.check(53)
def test_the_agents_own_worker_process(address: str, image: np.ndarray, image_file: bytes) -> None:
    loader = FunctionLoader(None, FILE, {"url": address})
    with RecoverableExecutor(initializer=_worker_init, initargs=(loader, None)) as executor:
        driver = Driver(None, executor, loader.load().spec)
        driver.image = Image.fromarray(image)
        for negative in ([], [[8, 8]]):
            clicks = [(30, 20, True), *((x, y, False) for x, y in negative)]
            np.testing.assert_array_equal(driver.mask([[30, 20]], negative), native_mask(address, image_file, *clicks))


def test_create_native_over_the_command_line(tmp_path: Path) -> None:
    """In an empty folder and without a Maskwright server; this stands in for CVAT and answers its requests."""
    with fake_cvat() as cvat:
        tool = str(Path(sys.executable).with_name("cvat-cli"))
        command = [tool, "--server-host", cvat.address, "--auth", "anna:secret", "function", "create-native"]
        command += ["maskwright", "--function-file", str(FILE), "-p", "url=str:http://127.0.0.1:1"]
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        environment |= {"HOME": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "41"
    assert cvat.created == [
        {
            "provider": "native",
            "name": "maskwright",
            "visibility": "private",
            "kind": "interactor",
            "min_pos_points": 1,
            "min_neg_points": 0,
        }
    ]


def test_the_created_function_fits_the_one_that_runs(driver: Driver) -> None:
    created = {"startswith_box": False, "startswith_box_optional": False, "min_pos_points": 1, "min_neg_points": 0}
    driver.validate_function_compatibility(created)
    with pytest.raises(IncompatibleFunctionError, match="bounding boxes"):
        driver.validate_function_compatibility(created | {"startswith_box_optional": True})


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
