"""Checks of MLflow, Label Studio, CVAT and the Maskwright server, and of ports that other machines can reach."""

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from jobs import tracking
from jobs.doctor.finding import Finding
from models.errors import InputError

TRIED_STUDIO = "1.23"
WAIT_S = 5.0
DATABASE = "sqlite:///"
RAY_PROGRAMS = ("gcs_server", "raylet", "dashboard", "ray-")
HOSTS = "check that it runs, and that its --allowed-hosts include this name"
UNBLOCK = "start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (docs/HTTP.md)"


def ask(url: str, path: str, **headers: str) -> httpx.Response:
    """GET a path of a service; raises InputError if it does not answer."""
    try:
        return httpx.get(url.rstrip("/") + path, headers=headers, timeout=WAIT_S, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        advice = "check that it runs and that this machine can reach it"
        raise InputError(f"{url} does not answer ({error or type(error).__name__}): {advice}") from error


def described(url: str, path: str) -> dict[str, Any]:
    """Return the JSON object that describes a service; raises InputError for any other answer."""
    answer = ask(url, path)
    try:
        found = answer.raise_for_status().json()
    except (httpx.HTTPStatusError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{url}{path} does not describe a service (status {answer.status_code}): check the address")
    return found


def mlflow(uri: str, on_cluster: bool) -> Iterator[Finding]:
    """Check that experiments can be read from a tracking server or database; an empty `uri`: none is set."""
    if not uri or uri.startswith(DATABASE):
        said = f"{uri or 'MLFLOW_TRACKING_URI is not set, so jobs use mlflow.db'}: a file on one machine"
        do = "set MLFLOW_TRACKING_URI to a server that all nodes reach (http://HOST:5000 of `mlflow server`)"
        if on_cluster:
            yield Finding("MLflow", "warning", said, do)
            return
        if not Path(uri.removeprefix(DATABASE) or "mlflow.db").is_file():
            yield Finding("MLflow", "ok", f"{said}, which the first job creates")
            return
    elif urlsplit(uri).scheme in ("http", "https"):
        answer = ask(uri, "/health")
        if answer.status_code != 200:
            yield Finding("MLflow", "failure", f"{uri}/health: {answer.status_code} {answer.reason_phrase}", HOSTS)
            return
    experiments = tracking.client(uri or DATABASE + "mlflow.db").search_experiments(max_results=1000)
    yield Finding("MLflow", "ok", f"{uri or 'mlflow.db'} has {len(experiments)} experiments")


def server(url: str) -> Iterator[Finding]:
    """Check that a Maskwright server is alive and its models are ready."""
    for path in ("/v1/health/live", "/v1/health/ready"):
        answer = ask(url, path)
        if answer.status_code != 200:
            said = f"{url}{path}: {answer.status_code} {answer.text[:200]}"
            yield Finding("server", "failure", said, "check its log (docs/OPERATE.md)")
            return
    yield Finding("server", "ok", f"{url} is ready")


def label_studio(url: str, server_url: str) -> Iterator[Finding]:
    """Check Label Studio's version, whether it accepts the token, and whether it may call `server_url`."""
    release = described(url, "/api/version").get("release", "?")
    yield Finding("Label Studio", "ok", f"{url} is release {release}; Maskwright is tested with {TRIED_STUDIO}")
    if token := os.environ.get("LABEL_STUDIO_API_KEY"):
        status = ask(url, "/api/current-user/whoami", Authorization=f"Token {token}").status_code
        if status == 200:
            yield Finding("Label Studio", "ok", "accepts LABEL_STUDIO_API_KEY")
        else:
            do = "use the legacy token of a user, and start Label Studio with --enable-legacy-api-token"
            yield Finding("Label Studio", "failure", f"refuses LABEL_STUDIO_API_KEY ({status})", do)
    if server_url and (private := private_address(server_url)):
        said = f"{server_url} is {private}, a private address, which Label Studio does not call by default"
        yield Finding("Label Studio", "warning", said, UNBLOCK)


def cvat(url: str, server_url: str) -> Iterator[Finding]:
    """Check CVAT's version, and that it can call `server_url`, from an address that `--cvat-clients` must include."""
    yield Finding("CVAT", "ok", f"{url} is version {described(url, '/api/server/about').get('version', '?')}")
    if server_url and urlsplit(server_url).path.strip("/"):
        said = f"{server_url} has a path, but CVAT supports only a host and a port"
        yield Finding("CVAT", "failure", said, "serve the three paths that CVAT calls at the root (docs/HTTP.md)")


def private_address(url: str) -> str:
    """Return the address of a URL's host if it is not a public one, else an empty string."""
    host = urlsplit(url).hostname or ""
    for *_, address in socket.getaddrinfo(host, None):
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
            return str(address[0])
    return ""


def ports(has_token: bool) -> Iterator[Finding]:
    """List Ray, MLflow, Redis and Maskwright processes on this machine that other machines can connect to."""
    found: dict[str, set[int]] = {}
    for each in psutil.net_connections("tcp"):
        if each.status != psutil.CONN_LISTEN or not each.laddr or ipaddress.ip_address(each.laddr.ip).is_loopback:
            continue
        if each.pid and (program := program_of(each.pid)):
            found.setdefault(program, set()).add(each.laddr.port)
    for program, numbers in sorted(found.items()):
        said = f"{program} is open to other machines at ports {', '.join(map(str, sorted(numbers)[:8]))}"
        if program == "Ray" and not has_token:
            do = "start it with RAY_AUTH_MODE=token, or bind it to this machine: anyone who connects can run code here"
            yield Finding("ports", "warning", said, do)
        elif program == "Redis":
            do = "block other machines, or set a password (requirepass)"
            yield Finding("ports", "warning", said, do)
        else:
            yield Finding("ports", "ok", said)
    if not found:
        yield Finding("ports", "ok", "no Ray, MLflow, Redis or Maskwright process is open to other machines")


def program_of(pid: int) -> str:
    """Return the name of a process's program if it is a known one, else an empty string."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return ""
    command = " ".join(words)
    if any(name in command for name in RAY_PROGRAMS):
        return "Ray"
    if "redis-server" in command:
        return "Redis"
    if re.search(r"\bmlflow\b", command):
        return "MLflow"
    return "Maskwright" if "serve" in words else ""
