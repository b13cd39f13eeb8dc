"""Tokens: which requests they allow, and what their file may contain."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import WebSocketDenialResponse

from models.errors import InputError
from serve.core import tokens
from serve.core.problems import Problem
from serve.core.tokens import Secrets, Token, digest_of, find, new_token, read_tokens
from serve.http.access import PROBES, Access
from tests.serve.conftest import Server, encoded, picture, refused

ANNA = Token(name="anna", role="annotator", sha256=digest_of("secret-of-anna"))
ADA = Token(name="ada", role="admin", sha256=digest_of("secret-of-ada"))
HEADERS = {"Authorization": "Bearer secret-of-anna"}
ROUTES = [
    ("POST", "/v1/sessions"),
    ("GET", "/v1/sessions/x"),
    ("DELETE", "/v1/sessions/x"),
    ("POST", "/v1/sessions/x/clicks"),
    ("POST", "/v1/sessions/x/undo"),
    ("GET", "/v1/sessions/x/mask"),
    ("POST", "/v1/predict"),
    ("GET", "/v1/health"),
    ("GET", "/v1/examples"),
    ("GET", "/v1/examples/a.png"),
    ("GET", "/v1"),
    ("GET", "/v1/nothing"),
]


@pytest.fixture
def closed(make_server: Callable[..., Server]) -> Server:
    return make_server(tokens=(ANNA, ADA))


@pytest.mark.check(24)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_requires_a_token(closed: Server, method: str, path: str) -> None:
    answer = closed.client.request(method, path)
    refused(answer, 401, "token_missing")
    assert answer.headers["www-authenticate"] == 'Bearer realm="maskwright"'
    for header in ("Digest YTpi", "Bearer", "Bearer ", "secret-of-anna"):
        refused(closed.client.request(method, path, headers={"Authorization": header}), 401, "token_missing")
    wrong = closed.client.request(method, path, headers={"Authorization": "Bearer secret-of-eve"})
    refused(wrong, 401, "token_wrong")
    assert "invalid_token" in wrong.headers["www-authenticate"]
    assert "secret-of" not in wrong.text
    assert closed.client.request(method, path, headers=HEADERS).status_code not in (401, 403)


@pytest.mark.check(24)
def test_all_documented_routes_except_the_probes_require_a_token(closed: Server) -> None:
    document = closed.client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            status = closed.client.request(method, path.replace("{session_id}", "x").replace("{name}", "x")).status_code
            assert (status in (200, 503)) if path in PROBES else status == 401, path
    assert document["security"] == [{"token": []}]
    assert {path for path, each in document["paths"].items() if each.get("get", {}).get("security") == []} == set(
        PROBES
    )


def test_the_page_and_the_probes_require_no_token(closed: Server) -> None:
    for path in ("/", "/web/app.js", "/openapi.json", "/v1/health/live"):
        assert closed.client.get(path).status_code == 200
    closed.client.headers |= HEADERS
    closed.click(closed.open(), 5, 5)
    del closed.client.headers["Authorization"]
    assert closed.client.get("/v1/health/ready").json() == {"status": "ok"}


def test_a_server_without_tokens_requires_none(server: Server) -> None:
    assert server.client.get("/v1/health").status_code == 200
    assert "security" not in server.client.get("/openapi.json").json()


def test_the_scheme_is_read_in_any_case_and_clicks_work(closed: Server) -> None:
    closed.client.headers["Authorization"] = "bearer secret-of-anna"
    session = closed.open()
    assert closed.click(session, 5, 5)["num_clicks"] == 1


@pytest.mark.check(24)
def test_roles(closed: Server) -> None:
    refused(closed.client.get("/v1/admin/anything", headers=HEADERS), 403, "forbidden")
    ada = {"Authorization": "Bearer secret-of-ada"}
    refused(closed.client.get("/v1/admin/anything", headers=ada), 404, "not_found")
    assert closed.client.get("/v1/health", headers=ada).status_code == 200


def test_an_app_below_a_path_requires_tokens_too() -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent.append("let in")

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    def ask(path: str, root_path: str) -> Any:
        sent.clear()
        scope = {"type": "http", "path": path, "root_path": root_path, "headers": [], "state": {"instance": "i"}}
        with pytest.raises(StopIteration):
            Access(app, (ANNA,))(scope, receive, send).send(None)
        return sent[0] if sent[0] == "let in" else sent[0]["status"]

    assert ask("/mask/v1/health", "/mask") == 401
    assert ask("/mask/v1/health/live", "/mask") == "let in"
    assert ask("/v1/health/live", "/") == "let in"
    assert ask("//v1/health", "") == 401


def denied(server: Server, **options: Any) -> Any:
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        server.client.websocket_connect("ws://localhost/v1/sessions/x/live", **options),
    ):
        raise AssertionError
    return caught.value


@pytest.mark.check(24)
def test_websockets_require_a_token_too(closed: Server) -> None:
    closed.client.headers["Authorization"] = "Bearer secret-of-anna"
    session = closed.open()
    with closed.client.websocket_connect(f"ws://localhost/v1/sessions/{session}/live") as socket:
        socket.send_json({"kind": "click", "x": 5, "y": 5})
        assert socket.receive_json()["sequence"] == 1
    del closed.client.headers["Authorization"]
    answer = denied(closed)
    refused(answer, 401, "token_missing")
    refused(denied(closed, subprotocols=["bearer"]), 401, "token_missing")
    refused(denied(closed, subprotocols=["bearer", "wrong"]), 401, "token_wrong")
    address = f"ws://localhost/v1/sessions/{session}/live"
    with closed.client.websocket_connect(address, subprotocols=["bearer", "secret-of-anna"]) as socket:
        assert socket.accepted_subprotocol == "bearer", "the secret is not sent back"
        socket.send_json({"kind": "undo"})
        assert socket.receive_json()["sequence"] == 2


@pytest.mark.check(24)
def test_a_secret_is_compared_with_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(ours: str, given: str) -> bool:
        compared.append(ours)
        return ours == given

    monkeypatch.setattr(tokens.hmac, "compare_digest", compare)
    assert find("secret-of-anna", (ANNA, ADA)) == ANNA
    assert compared == [ANNA.sha256, ADA.sha256], "the first is no faster than the last"
    with pytest.raises(Problem):
        find("", (ANNA, ADA))
    assert len(compared) == 4


def test_a_body_is_not_read_before_the_token_is_known(closed: Server) -> None:
    answer = closed.client.post("/v1/sessions", content=encoded(picture()), headers={"Content-Type": "image/png"})
    refused(answer, 401, "token_missing")
    assert closed.predictor.num_opened == 0


def test_the_file_of_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# who\n\nanna annotator {ANNA.sha256}\n  ada   admin {ADA.sha256.upper()}\n")
    assert read_tokens(path) == (ANNA, ADA)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# no one\n", "is empty"),
        ("anna annotator\n", "line 1: expected name, role and SHA-256"),
        (f"anna boss {ANNA.sha256}", "annotator, admin"),
        (f"\nan/na admin {ANNA.sha256}", "line 2"),
        ("anna admin my-secret-itself", "not a SHA-256"),
        (f"anna admin {ANNA.sha256}\nanna admin {ADA.sha256}", "same name or secret"),
        (f"anna admin {ANNA.sha256}\nada admin {ANNA.sha256}", "same name or secret"),
    ],
)
def test_bad_files_of_tokens(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_tokens(path)
    assert "my-secret-itself" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_tokens(tmp_path / "nowhere")


def test_a_new_token_is_found_by_its_secret(tmp_path: Path) -> None:
    secret, line = new_token("anna", "annotator")
    assert len(secret) >= 43, "256 bits"
    assert secret not in line
    (tmp_path / "tokens").write_text(line)
    (token,) = read_tokens(tmp_path / "tokens")
    assert (token.name, token.role, token.sha256) == (
        "anna",
        "annotator",
        hashlib.sha256(secret.encode()).hexdigest(),
    )
    assert find(secret, (ADA, token)) == token
    assert new_token("anna", "annotator")[0] != secret
    for name, role in (("a b", "admin"), ("a", "boss")):
        with pytest.raises(InputError):
            new_token(name, role)


@pytest.mark.networks
def test_the_command_prints_a_secret_and_its_line() -> None:
    command = [sys.executable, "-m", "serve.access"]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, "anna", "admin"], capture_output=True, text=True, cwd=root, timeout=60)
    secret = done.stderr.strip().split(": ", 1)[1]
    assert done.stdout == f"anna admin {digest_of(secret)}\n", "what `>> FILE` adds to a file of tokens"
    for bad in (["anna"], ["anna", "boss"]):
        done = subprocess.run([*command, *bad], capture_output=True, text=True, cwd=root, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")


def test_label_studio_sends_its_secret_as_a_password_and_cvat_sends_none() -> None:
    secret, _ = new_token("ls", "annotator")
    server = Server(secrets=Secrets(tokens=(Token(name="ls", role="annotator", sha256=digest_of(secret)),)))
    assert server.client.get("/ls/health").status_code == 401
    assert server.client.get("/ls/health", auth=("anybody", secret)).status_code == 200
    refused(server.client.get("/ls/health", auth=("anybody", "wrong")), 401, "token_wrong")
    refused(server.client.get("/ls/health", headers={"Authorization": "Basic %%%"}), 401, "token_missing")
    refused(server.client.get("/api/functions"), 403, "address_refused")
