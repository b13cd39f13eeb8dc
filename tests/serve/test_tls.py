"""TLS: unusable files are reported before anything starts, and clients reach the server over https and wss."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.errors import InputError
from serve.client import Client, ServerError
from serve.core.options import Options
from serve.engine.engine import Engine
from serve.http.app import create_app
from serve.http.server import answering
from serve.http.tls import Tls
from serve.start.command import Serve, check
from tests.ports import free_port
from tests.serve.certificates import certificate
from tests.serve.conftest import encoded, picture
from tests.serve.disks import DiskPredictor
from tests.serve.processes import served
from tests.serve.test_model import small_checkpoint

__all__ = ["small_checkpoint"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def address(files: Tls) -> Iterator[str]:
    port = free_port()
    app = create_app(Engine(DiskPredictor()), Options(clicks_per_second=0))
    with answering(app, "127.0.0.1", port, files):
        yield f"https://127.0.0.1:{port}"


def test_a_client_with_the_certificate_clicks_by_requests_and_by_a_socket(address: str, files: Tls) -> None:
    with Client(address, ca=files.certificate, tries=1) as client, client.open(encoded(picture())) as session:
        mask = session.click(30, 20)
        assert mask.any()
        session.undo()
        with session.live() as live:
            np.testing.assert_array_equal(live.click(30, 20), mask)


def test_a_client_without_the_certificate_reports_it(address: str, tmp_path: Path) -> None:
    other = certificate(tmp_path, "other")
    for ca in (None, other.certificate):
        with Client(address, ca=ca, tries=1) as client, pytest.raises(ServerError, match="CERTIFICATE_VERIFY_FAILED"):
            client.open(encoded(picture()))
    with pytest.raises(InputError, match="contains no certificates"):
        Client(address, ca=other.key)


def test_plain_http_is_not_answered(address: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(address.replace("https", "http"), trust_env=False)


def test_both_or_neither(tmp_path: Path) -> None:
    assert Serve().tls is None
    assert Serve().url == "http://127.0.0.1:8000"
    both = Serve(certificate=tmp_path / "a", key=tmp_path / "b")  # pyright: ignore[reportArgumentType] - paths do too
    assert (both.tls, both.url) == (
        Tls(certificate=str(tmp_path / "a"), key=str(tmp_path / "b")),
        "https://127.0.0.1:8000",
    )
    assert str(tmp_path / "b") not in repr(both)
    with pytest.raises(InputError, match="--certificate was given without --key"):
        check(Serve(port=free_port(), certificate="a"))
    with pytest.raises(InputError, match="--key was given without --certificate"):
        check(Serve(port=free_port(), key="a"))


def test_unusable_files_are_refused(files: Tls, tmp_path: Path) -> None:
    text, locked = tmp_path / "text", certificate(tmp_path, "locked", password=b"hush!hush")
    text.write_text("no certificate")
    wrong = {
        r"--certificate .*gone cannot be read: No such file": replace(files, certificate=str(tmp_path / "gone")),
        r"--key .*gone cannot be read: No such file": replace(files, key=str(tmp_path / "gone")),
        r"--certificate .* cannot be read: Is a directory": replace(files, certificate=str(tmp_path)),
        r"--certificate .*text contains no certificate: expected PEM": replace(files, certificate=str(text)),
        r"--certificate .*server.key contains no certificate": Tls(certificate=files.key, key=files.certificate),
        r"and --key .*text cannot be used": replace(files, key=str(text)),
        r"--key .*other.key does not belong to the certificate": replace(files, key=certificate(tmp_path, "other").key),
        r"--key .*locked.key needs a password": locked,
    }
    for said, given in wrong.items():
        with pytest.raises(InputError, match=said):
            check(Serve(plain=True, port=free_port(), certificate=given.certificate, key=given.key))


def test_a_certificate_out_of_time_is_served_with_a_warning(
    files: Tls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def warned(given: Tls) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "maskwright.serve"):
            check(Serve(plain=True, port=free_port(), certificate=given.certificate, key=given.key))
        return [record.getMessage() for record in caplog.records]

    assert warned(files) == []
    (expired,) = warned(certificate(tmp_path, "old", first_day=-3, last_day=-1))
    assert "old.crt has expired: clients will refuse it" in expired
    (early,) = warned(certificate(tmp_path, "early", first_day=1, last_day=3))
    assert "early.crt is not valid yet" in early


def test_haproxy_with_tls_is_refused(files: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    given = {"certificate": files.certificate, "key": files.key, "insecure": True}
    with pytest.raises(InputError, match="does not support TLS"):
        check(Serve(proxy=True, port=free_port(), **given))
    check(Serve(port=free_port(), **given))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("options", [("--plain",), (), ("--proxy",)], ids=["plain", "ray", "proxies"])
def test_the_command_serves_over_tls(
    options: tuple[str, ...], small_checkpoint: Path, files: Tls, tmp_path: Path
) -> None:
    with served(small_checkpoint, tmp_path, *options, tls=files) as running:
        assert f"Starting {running.address} " in running.said()
        assert running.address.startswith("https://")
        with Client(running.address, ca=files.certificate) as client, client.open(encoded(picture())) as session:
            mask = session.click(30, 20)
            session.undo()
            with session.live() as live:
                np.testing.assert_array_equal(live.click(30, 20), mask)
        with pytest.raises(httpx.TransportError):
            httpx.get(running.address.replace("https", "http"), trust_env=False)
