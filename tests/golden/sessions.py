"""Makes the golden sessions by the real server: opened, clicked, undone, finished, as people do."""

import base64
import io
import json
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from models import rle
from pipeline.data.readers import open_reader
from serve.core.options import Options
from serve.core.tokens import digest_of
from serve.core.values import SessionValue
from serve.sessions.open_store import open_store
from serve.sessions.store_redis import PREFIX
from tests.golden.asking import NOW, OPENED_AT, ask, kept, server
from tests.golden.networks import SCENES
from tests.serve.redis_server import RedisServer

SECRETS = {"anna": "golden-secret-of-anna", "ben": "golden-secret-of-ben"}
PNG_HEADERS = {"Content-Type": "image/png"}


def make_sessions(out: Path, checkpoints: Path) -> None:
    """Write sessions.db, tokens.txt, redis.json and answers.json."""
    out.mkdir(parents=True)
    (out / "tokens.txt").write_text("".join(f"{name} annotator {digest_of(s)}\n" for name, s in SECRETS.items()))
    store = out / "sessions.db"
    with tempfile.TemporaryDirectory() as folder:
        # One that has ended by the time the others are opened.
        early = _Person(server(checkpoints, store, now=OPENED_AT - 2 * Options().idle_timeout_s))
        ended = early.open(_png(_scene()))
        found = _open_all(_Person(server(checkpoints, store, now=OPENED_AT)))
        anna = _Person(server(checkpoints, store, tokens=out / "tokens.txt", now=OPENED_AT), SECRETS["anna"])
        theirs = anna.open(_png(_scene()))
        anna.click(theirs, 50, 30).change(theirs, "finish", label="hers")
        anna.click(theirs, 60.5, 41.25).click(theirs, 70, 33).click(theirs, 34, 44)
        anna.change(theirs, "undo")
        _close(store)
        shutil.copy(store, Path(folder) / "copy.db")
        plain = server(checkpoints, Path(folder) / "copy.db")
        asked = [_asked(plain, about, session) for about, session in found.items()]
        guarded = server(checkpoints, Path(folder) / "copy.db", tokens=out / "tokens.txt")
        asked += [_of_an_owner(guarded, theirs), {"about": "ended", "asks": [_answered(plain, "GET", ended, "")]}]
    (out / "answers.json").write_text(json.dumps({"sessions": asked}, indent=1) + "\n")
    (out / "redis.json").write_text(json.dumps(_in_redis(store), indent=1) + "\n")


class _Person:
    """Opens sessions and changes them."""

    def __init__(self, client: TestClient, secret: str | None = None) -> None:
        self.client = client
        if secret is not None:
            client.headers["Authorization"] = f"Bearer {secret}"

    def open(self, image: bytes, query: str = "", kind: str = "image/png", **body: Any) -> str:
        """Open a session by JSON if there is a body, else by the file alone."""
        if body:
            answer = self.client.post("/v1/sessions", json={"image": base64.b64encode(image).decode(), **body})
        else:
            answer = self.client.post(f"/v1/sessions{query}", content=image, headers={"Content-Type": kind})
        assert answer.status_code == 201, answer.text
        return answer.json()["session_id"]

    def change(self, session: str, path: str, **body: Any) -> "_Person":
        """Make a change, with its number as careful clients do."""
        number = self.client.get(f"/v1/sessions/{session}").json()["sequence"] + 1
        answer = self.client.post(f"/v1/sessions/{session}/{path}", json={**body, "sequence": number})
        assert answer.status_code == 200, answer.text
        return self

    def click(self, session: str, x: float, y: float, positive: bool = True) -> "_Person":
        """Click."""
        return self.change(session, "clicks", x=x, y=y, positive=positive)


def _open_all(person: _Person) -> dict[str, str]:
    scene, box = _scene(), np.zeros((80, 112), bool)
    box[20:50, 30:70] = True
    mask, found = dict(rle.encode(box)), {}

    session = found["opened only"] = person.open(_png(scene))
    session = found["clicks undone"] = person.open(_png(scene))
    person.click(session, 50, 30).click(session, 60.5, 41.25).click(session, 5, 70, False)
    person.change(session, "undo").change(session, "undo")

    session = found["all clicks cleared"] = person.open(_png(scene))
    person.click(session, 50, 30).click(session, 70, 40).change(session, "clear")

    session = found["from a mask"] = person.open(_png(scene), mask=mask, refinement="progressive_merge")
    person.click(session, 90, 60)

    session = found["settings given, then others"] = person.open(_png(scene), "?refinement=cfr_1&mask_threshold=0.4")
    person.click(session, 30, 40).click(session, 34, 44)
    person.change(session, "settings", refinement="zoom_in+flip", mask_threshold=0.35)

    session = found["finished, in parts, added, one edited"] = person.open(_png(scene))
    person.click(session, 50, 30).change(session, "finish", label="one")
    person.click(session, 20, 20).click(session, 95, 65).change(session, "finish", label="parts", parts=True)
    person.change(session, "objects", mask=mask, label="added", clicks=[{"x": 40, "y": 30}])
    person.change(session, "objects/1/edit").click(session, 44, 33)

    session = found["with an exemplar"] = person.open(
        _png(scene), model="exemplar", exemplar={"mask": mask, "clicks": [{"x": 50, "y": 30}]}
    )
    person.click(session, 80, 50).click(session, 10, 10, False)

    session = found["recalled"] = person.open(_png(scene), model="exemplar")
    person.click(session, 50, 30).change(session, "finish", label="kind").change(session, "recall", number=1)
    person.click(session, 80, 50)

    session = found["a turned JPEG"] = person.open(_turned(scene), kind="image/jpeg")
    person.click(session, 30, 50)

    for about, image in (("12 bits in 16", _deep(scene)), ("16 bits of colour", _deep_colour(scene))):
        session = found[about] = person.open(image)
        person.click(session, 50, 30).click(session, 90, 60, False)
    return found


def _asked(client: TestClient, about: str, session: str, secret: str | None = None) -> dict[str, Any]:
    """Look at a session from all sides, then go on with it."""
    state = _answered(client, "GET", session, "", secret=secret)
    number = state["answer"]["sequence"]
    asks = [state, *(_answered(client, "GET", session, path, secret=secret) for path in _LOOKS)]

    def go_on(path: str, **body: Any) -> None:
        nonlocal number
        number += 1
        asks.append(_answered(client, "POST", session, path, {**body, "sequence": number}, secret))

    if state["answer"]["num_redo"]:
        go_on("/redo")
    go_on("/clicks", x=70.25, y=33, positive=True)
    # The same number once more is the same change.
    number -= 1
    go_on("/clicks", x=70.25, y=33, positive=True)
    go_on("/undo")
    go_on("/settings", refinement="cfr_2")
    if state["answer"]["num_objects"]:
        go_on("/finish", label="last")
        go_on("/objects/1/edit") if about != "finished, in parts, added, one edited" else go_on("/objects/2/edit")
    return {"about": about, "session": session, "asks": asks}


_LOOKS = ("/mask", "/objects", "/steps", "/export?file_name=a.png", "/export?format=exemplars")


def _answered(
    client: TestClient, method: str, session: str, path: str, body: Any = None, secret: str | None = None
) -> dict[str, Any]:
    request = {"method": method, "path": f"/v1/sessions/{session}{path}"}
    request |= ({"body": body} if body else {}) | ({"secret": secret} if secret else {})
    status, answer = ask(client, request)
    return {**request, "status": status, "answer": kept(answer)}


def _of_an_owner(client: TestClient, session: str) -> dict[str, Any]:
    found = _asked(client, "of an owner", session, SECRETS["anna"])
    found["asks"].append(_answered(client, "GET", session, "", secret=SECRETS["ben"]))
    found["asks"].append(_answered(client, "GET", session, ""))
    return found


def _close(store: Path) -> None:
    """Put all into the one file, and leave out what was overwritten."""
    with sqlite3.connect(store) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        store.with_name(store.name + suffix).unlink(missing_ok=True)


def _in_redis(store: Path) -> dict[str, Any]:
    """The same sessions as Redis has them once the store of this version has put them there; bytes as base64."""
    with sqlite3.connect(store) as db:
        rows = db.execute("SELECT value, used_at, data FROM sessions JOIN images ON sha256 = image_sha256").fetchall()
        ended = [session for (session,) in db.execute("SELECT id FROM ended")]
    with RedisServer() as running:
        target = open_store(running.url)
        for session in ended:  # as it was before it ended
            target.add(_like(rows[0], session), rows[0][2])
        target.expire(NOW)
        for value, used_at, data in rows:
            target.add(SessionValue.from_json(value, used_at), data)
        with running.client() as connection:
            client: Any = connection
            return {key.decode(): _dumped(client, key) for key in sorted(client.keys(f"{PREFIX}*"))}


def _like(row: tuple[str, float, bytes], session: str) -> SessionValue:
    plain = {**json.loads(row[0]), "id": session}
    return SessionValue.from_json(json.dumps(plain), 0.0)


def _dumped(client: Any, key: bytes) -> dict[str, Any]:
    kind = client.type(key).decode()
    match kind:
        case "string":
            value: Any = _text(client.get(key))
        case "hash":
            value = {_text(name): _text(field) for name, field in sorted(client.hgetall(key).items())}
        case "set":
            value = sorted(_text(member) for member in client.smembers(key))
        case "zset":
            value = [[_text(member), score] for member, score in client.zrange(key, 0, -1, withscores=True)]
        case _:
            raise AssertionError(f"{key} is a {kind}")
    return {"type": kind, "value": value}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _scene() -> np.ndarray:
    reader = open_reader("scenes", options={"num_images": "2", **SCENES})
    return reader.load(reader.items()[1]).image


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _turned(image: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=85, exif=exif)
    return stream.getvalue()


def _deep(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image.mean(2).astype(np.uint16) * 16)[1].tobytes()


def _deep_colour(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
