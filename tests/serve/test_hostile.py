"""Malicious requests: bombs, names that lead out of a folder, ids of other sessions, code in place of data."""

import ast
import asyncio
import base64
import json
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.core.tokens import Secrets, Token, digest_of
from serve.wire import images
from tests.serve.asgi import Asked
from tests.serve.conftest import Server, encoded, picture, refused
from tests.serve.test_images import bomb

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}
MILLION = "{" + ",".join(map('"{}":0'.format, range(1_000_000))) + "}"
BOMBS = {
    "deep array": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "closed": "[" * 100_000 + "]" * 100_000,
    "wide": MILLION,
    "wide array": "[" + "0," * 1_000_000 + "0]",
    "same key": '{"image": "a", "image": "b"}',
    "long number": '{"mask_threshold": ' + "9" * 1_000_000 + "}",
}


@pytest.mark.check(10)
@pytest.mark.parametrize("kind", BOMBS)
def test_json_bombs_cost_nothing(server: Server, kind: str) -> None:
    body = BOMBS[kind].encode()
    started = time.process_time()
    refused(server.client.post("/v1/sessions", content=body, headers=JSON), 400, "bad_json")
    took = time.process_time() - started
    assert took < 0.1 + 0.02 * len(body) / 2**20, "seconds of CPU; the test's own client copies the body"
    answer = server.client.post("/v1/predict", content=body, headers=JSON)
    refused(answer, 400, "bad_json")
    session = server.open()
    answer = server.client.post(f"/v1/sessions/{session}/clicks", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) in ((413, "body_too_large"), (400, "bad_json"))


def jpeg_bomb() -> bytes:
    frame = struct.pack(">BHHB", 8, 65535, 65535, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


def webp_bomb() -> bytes:
    data = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "WEBP", lossless=True))
    assert data[12:16] == b"VP8L"
    data[21:25] = struct.pack("<I", 16382 | 16382 << 14)
    return bytes(data)


@pytest.mark.check(2)
@pytest.mark.parametrize("data", [bomb(60_000, 60_000), jpeg_bomb(), webp_bomb()], ids=["png", "jpeg", "webp"])
def test_pixel_bombs_are_refused_from_their_headers(server: Server, data: bytes) -> None:
    assert len(data) < 200
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    refused(server.client.post("/v1/sessions", content=data, headers=PNG), 422, "image_too_large")
    assert time.perf_counter() - started < 0.2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KB: nothing was decoded"


@pytest.mark.check(3)
@pytest.mark.parametrize(
    "head",
    [
        b"GIF89a" + b"\0" * 60,
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<?xml version='1.0'?><svg/>",
        b"8BPS\0\1" + b"\0" * 60,
        b"SIMPLE  =                    T",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"%PDF-1.7",
        b"\0\0\1\0\1\0" + b"\0" * 60,
        b"II*\0" + b"\0" * 60,
        b"BM" + b"\0" * 60,
        b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 60,
        b"\0\0\0\x1cftypavif" + b"\0" * 60,
        b"PK\3\4" + b"\0" * 60,
        b"\x80\4\x95",
        b"RIFF\0\0\0\0AVI LIST",
    ],
)
def test_only_three_formats_are_opened_whatever_the_file_is_called(
    server: Server, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images.Image, "open", lambda *_, **__: pytest.fail("given to a decoder"))
    for kind in ("image/png", "image/svg+xml", "application/octet-stream"):
        answer = server.client.post("/v1/sessions", content=head, headers={"Content-Type": kind})
        refused(answer, 415, "unsupported_image")
    uri = "data:image/png;base64," + base64.b64encode(head).decode()
    refused(server.client.post("/v1/sessions", json={"image": uri}), 415, "unsupported_image")


@pytest.mark.check(3)
def test_decoders_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = images.Image.open

    def opened(*args: Any, **options: Any) -> Any:
        asked.append(options.get("formats"))
        return real(*args, **options)

    monkeypatch.setattr(images.Image, "open", opened)
    for format in images.FORMATS:
        images.decode_image(encoded(picture(), format), 10**6)
    images.decode_mask_png(encoded(np.zeros((4, 6), np.uint8)), (4, 6))
    assert asked == [["JPEG"], ["PNG"], ["WEBP"], ["PNG"]]


@pytest.mark.check(4)
def test_a_thousand_damaged_images_leave_the_server_unchanged(make_server: Callable[..., Server]) -> None:
    server = make_server(opens_per_minute=0)
    rng, whole = np.random.default_rng(0), [encoded(picture(), format) for format in images.FORMATS]

    async def run() -> None:
        for index in range(1000):
            data = whole[index % 3]
            cut = base64.b64encode(data[: int(len(data) * rng.uniform(0.2, 0.9))]).decode()
            status, _, problem = await Asked(server.app, "POST", "/v1/sessions", {"image": cut}).answer()
            assert (status, problem["code"]) == (422, "bad_image")

    asyncio.run(run())
    assert server.client.get("/v1/health").json()["sessions"] == 0
    assert server.click(server.open(), 5, 5)["num_clicks"] == 1


NAMES = [
    "../x", "..", ".", "/etc/passwd", "a/b", "a\\b", "#", "?", "a b", "a\0b", "a\nb", "%2e%2e", "..%2f..%2fx",
    "x" * 300, "CON", "NUL.txt", "models:/x@y", "http://127.0.0.1/", "s3://b/k", "ä", "", "*",
]  # fmt: skip


@pytest.mark.check(22)
@pytest.mark.parametrize("name", NAMES)
def test_names_lead_nowhere(name: str, make_server: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "x").write_bytes(b"outside")
    (tmp_path / "inside" / "a.png").write_bytes(encoded(picture()))
    server = make_server(examples=tmp_path / "inside")
    image = base64.b64encode(encoded(picture())).decode()
    answer = server.client.post("/v1/sessions", json={"image": image, "model": name})
    assert (answer.status_code, answer.json()["code"]) in ((422, "bad_request"), (422, "model_unknown"))
    answer = server.client.post("/v1/sessions", json={"image": image, "refinement": name})
    assert (answer.status_code, answer.json()["code"]) in ((422, "bad_request"), (422, "bad_refinement"))
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    for address in (f"/v1/examples/{quoted}", f"/web/{quoted}", f"/v1/sessions/{quoted}", f"/api/functions/{quoted}"):
        answer = server.client.get(address, follow_redirects=False)
        lists = name in ("", ".", "..") or answer.status_code == 403  # another address, or CVAT's
        assert answer.status_code in (403, 404, 405) or lists, address
        assert b"outside" not in answer.content
    session = server.open()
    exported = server.client.get(f"/v1/sessions/{session}/export", params={"file_name": name})
    assert exported.status_code == 200
    assert exported.json()["images"][0]["file_name"] == name, "written nowhere: it comes back as it was given"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "inside", "x"]


@pytest.mark.check(18)
@pytest.mark.parametrize("field", ["checkpoint_url", "checkpoint", "model_url", "image_url", "weights"])
def test_no_request_brings_a_model_or_an_address(server: Server, field: str) -> None:
    image = base64.b64encode(encoded(picture())).decode()
    for path in ("/v1/sessions", "/v1/predict"):
        answer = server.client.post(path, json={"image": image, field: "http://127.0.0.1/x.pth"})
        problem = refused(answer, 422, "bad_request")
        assert field in problem["pointer"]


@pytest.mark.check(31)
def test_uploads_are_never_shown_as_a_page(make_server: Callable[..., Server], tmp_path: Path) -> None:
    for name in ("a.svg", "b.html", "c.png"):
        (tmp_path / name).write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    server = make_server(examples=str(tmp_path))
    assert [each["name"] for each in server.client.get("/v1/examples").json()["examples"]] == ["c.png"]
    for name in ("a.svg", "b.html"):
        refused(server.client.get(f"/v1/examples/{name}"), 404, "not_found")
    files = {"image": ("<script>alert(1)</script>.html", encoded(picture()), "text/html")}
    session = server.client.post("/v1/sessions", files=files).json()["session_id"]
    script = "<script>alert(1)</script>"
    server.click(session, 5, 5)
    server.change(session, "finish", label=script)
    for path in (
        "/v1/examples/c.png",
        f"/v1/sessions/{session}/export?file_name={script}",
        f"/v1/sessions/{session}/objects",
        f"/v1/sessions/{session}/mask?format=png",
        f"/v1/sessions/{session}/probability",
        f"/v1/sessions/{script}/mask",
        f"/{script}",
    ):
        answer = server.client.get(path)
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in ("image/png", "application/json", "application/problem+json"), path
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy


@pytest.mark.check(26)
def test_a_socket_on_a_session_of_another_token_finds_none() -> None:
    tokens = tuple(Token(name=name, role="annotator", sha256=digest_of(name)) for name in ("anna", "bert"))
    server = Server(secrets=Secrets(tokens=tokens))
    server.client.headers["Authorization"] = "Bearer anna"
    session = server.open()
    closed: list[Any] = []
    for secret, name in (("bert", session), ("bert", "x" * 32)):
        address = f"ws://localhost/v1/sessions/{name}/live"
        with server.client.websocket_connect(address, headers={"Authorization": f"Bearer {secret}"}) as socket:
            closed.append(socket.receive())
    assert closed[0] == closed[1] == {"type": "websocket.close", "code": 4404, "reason": "session_unknown"}
    with server.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live") as socket:
        socket.send_json({"kind": "click", "x": 5, "y": 5})
        assert socket.receive_json()["sequence"] == 1


@pytest.mark.check(26)
def test_ids_of_sessions_cannot_be_guessed(server: Server) -> None:
    ids = [server.open() for _ in range(50)]
    assert len(set(ids)) == 50
    bits = {len(base64.urlsafe_b64decode(each + "==")) * 8 for each in ids}
    assert min(bits) >= 128
    assert len({each[:4] for each in ids} | {each[-4:] for each in ids}) == 100, "no counter, no clock"


@pytest.mark.check(23)
def test_the_server_stores_and_sends_no_pickle() -> None:
    named = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in (ROOT / "serve").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not named & {name.partition(".")[0] for name in names}, path


WATCHED = """
import pickle, sys
found = []
sys.addaudithook(lambda event, args: found.append(args) if event == "pickle.find_class" else None)
pickle.loads(b"cbuiltins\\nlen\\n.")
assert found.pop() == ("builtins", "len"), "the hook sees what it is for"
from pathlib import Path
from tests.serve.conftest import Server, encoded, picture
from serve.core.options import Options
folder = Path(sys.argv[1])
found.clear()
for _ in range(2):  # the second one reads what the first has stored
    server = Server(Options(sessions=folder / "sessions.db", max_cache_bytes=1))
    session = (folder / "id").read_text() if (folder / "id").exists() else server.open()
    (folder / "id").write_text(session)
    server.click(session, 5, 5)
    server.change(session, "finish", label="a")
    server.client.get(f"/v1/sessions/{session}/export")
    server.click(server.open(), 5, 5)
    server.click(session, 9, 9)
print(found)
"""


@pytest.mark.check(23)
@pytest.mark.networks
def test_no_pickle_is_read_while_clicks_are_made_and_sessions_stored(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WATCHED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "sessions.db").read_bytes().startswith(b"SQLite")


@pytest.mark.check(2, 12)
@pytest.mark.networks
@pytest.mark.parametrize("kind", ["png text", "zip"])
def test_compressed_content_is_not_unpacked(server: Server, kind: str) -> None:
    """A PNG with a text chunk that would expand to 200 MB, and an archive in place of an image."""
    if kind == "zip":
        refused(
            server.client.post("/v1/sessions", content=b"PK\3\4" + b"\0" * 100, headers=PNG), 415, "unsupported_image"
        )
        return

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000), 9))
    whole = encoded(picture())
    data = whole[:33] + text + whole[33:]  # behind the header chunk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = server.client.post("/v1/sessions", content=data, headers=PNG)
    assert answer.status_code in (201, 422)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KB"
    assert json.dumps(answer.json())
