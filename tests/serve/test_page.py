"""The page's files, without a browser."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import InputError
from serve.http.pages import WEB
from tests.serve.conftest import Server, encoded, picture, refused


def test_the_page_and_its_files_are_served(server: Server) -> None:
    answer = server.client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:href|src)="(web/[^"]+)"', answer.text))
    assert len(named) >= 3
    for path in named:
        assert server.client.get(f"/{path}").status_code == 200
    assert server.client.get("/web/app.js").headers["content-type"].startswith("text/javascript")


def test_unchanged_files_are_not_sent_twice(server: Server) -> None:
    etag = server.client.get("/web/app.js").headers["etag"]
    assert server.client.get("/web/app.js", headers={"If-None-Match": etag}).status_code == 304


def test_modules_import_only_files_that_exist() -> None:
    modules = sorted(WEB.glob("*.js"))
    assert len(modules) >= 20
    for module in modules:
        for name in re.findall(r'from "\./([^"]+)"', module.read_text()):
            assert (WEB / name).is_file(), f"{module.name} imports {name}"


@pytest.mark.check(31)
def test_nothing_needs_more_than_the_policy_allows() -> None:
    for path in WEB.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), f"{path.name} names another server"
        assert not re.search(r"\beval\(|new Function|innerHTML|<script>|\son\w+=\"|\sstyle=\"", text), path.name


def test_every_element_that_the_scripts_name_exists() -> None:
    page = (WEB / "index.html").read_text()
    scripts = "\n".join(module.read_text() for module in WEB.glob("*.js"))
    named = set(re.findall(r'(?:\$|option|flip|picked)\("([\w-]+)"', scripts)) | set(
        re.findall(r'^    "([\w-]+)": (?:async )?(?:\(\)|page\.)', scripts, re.M)
    )
    assert len(named) > 60
    assert {name for name in named if f'id="{name}"' not in page} == set()


def test_every_module_is_used() -> None:
    imported = {name for module in WEB.glob("*.js") for name in re.findall(r'from "\./([^"]+)"', module.read_text())}
    assert {module.name for module in WEB.glob("*.js")} - imported == {"app.js"}


def test_examples(make_server: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(encoded(picture()))
    (tmp_path / "secret.txt").write_text("no")
    server = make_server(examples=str(tmp_path))
    (entry,) = server.client.get("/v1/examples").json()["examples"]
    assert entry == {"name": "a b.png", "url": "v1/examples/a%20b.png"}
    answer = server.client.get(f"/{entry['url']}")
    assert (answer.headers["content-type"], answer.content) == ("image/png", encoded(picture()))
    refused(server.client.get("/v1/examples/secret.txt"), 404, "not_found")
    assert Server().client.get("/v1/examples").json() == {"examples": []}
    with pytest.raises(InputError, match="is not a folder"):
        make_server(examples=tmp_path / "nowhere")
