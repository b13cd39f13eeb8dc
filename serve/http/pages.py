"""Serve the page and the example images from fixed tables of files, so that no request can name a path."""

import hashlib
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse

from models.errors import InputError
from serve.core.problems import Problem
from serve.http.openapi import problems
from serve.wire.protocol import Example, Examples

WEB = Path(__file__).parents[1] / "web"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
EXAMPLE_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
MAX_EXAMPLES = 5000


def add_page(app: FastAPI) -> None:
    """Serve the files of serve/web: index.html at /, the others under /web/."""
    files = {path.name: path.read_bytes() for path in sorted(WEB.iterdir()) if path.suffix in TYPES}

    def page(request: Request, name: str) -> Response:
        if name not in files:
            raise Problem("not_found", "the page has no file of this name")
        etag = f'"{hashlib.sha256(files[name]).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(files[name], media_type=TYPES[Path(name).suffix], headers=headers)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return page(request, "index.html")

    @app.get("/web/{name}", include_in_schema=False)
    async def asset(request: Request, name: str) -> Response:
        return page(request, name)


def add_examples(app: FastAPI, folder: Path | None) -> None:
    """Serve the images of `folder` (None: no examples) under /v1/examples; raises InputError if it is not a folder."""
    if folder is not None and not folder.is_dir():
        raise InputError(f"examples {folder} is not a folder: give a folder of JPEG, PNG or WebP images")
    found = (
        [] if folder is None else [path for path in sorted(folder.iterdir()) if path.suffix.lower() in EXAMPLE_TYPES]
    )
    paths = {path.name: path for path in found[:MAX_EXAMPLES]}

    @app.get("/v1/examples", responses=problems())
    async def examples() -> Examples:
        """List the example images."""
        return Examples(examples=[Example(name=name, url=f"v1/examples/{quote(name)}") for name in paths])

    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in sorted(set(EXAMPLE_TYPES.values()))}

    @app.get(
        "/v1/examples/{name}",
        response_class=FileResponse,
        responses=problems("not_found") | {200: {"content": content}},
    )
    async def example(name: str) -> FileResponse:
        """Return an example image."""
        if name not in paths:
            raise Problem("not_found", "there is no example of this name: see /v1/examples")
        return FileResponse(paths[name], media_type=EXAMPLE_TYPES[paths[name].suffix.lower()])
