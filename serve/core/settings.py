"""Limits of the server, in one place; the defaults suit one machine that serves a few annotators."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from serve.core.tokens import Token

MIB = 1 << 20
LogFormat = Literal["off", "text", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server accepts and keeps. Bytes are bytes, times are seconds."""

    max_body_bytes: int = 32 * MIB
    max_click_body_bytes: int = 64 * 1024
    max_object_body_bytes: int = MIB
    max_pixels: int = 32_000_000  # 96 MB as bytes, and 384 MB as the network's float32
    bit_depth: int = 0  # which bits of 16-bit images count in new sessions; 0: those that each image uses
    max_clicks: int = 200
    max_objects: int = 200  # finished ones of a session
    max_added_bytes: int = 8 * MIB  # run lengths of a session's finished objects, beyond which none is added
    max_sessions: int = 1000
    max_stored_bytes: int = 2048 * MIB  # encoded images and initial masks: what a session cannot be without
    max_cache_bytes: int = 2048 * MIB  # decoded images and predictor states: rebuilt when needed
    idle_timeout_s: float = 3600.0
    max_waiting: int = 64  # requests that are with the model or wait for it; one more is refused at once
    request_timeout_s: float = 100.0  # from the moment a request is whole to its answer
    max_live: int = 200  # sockets of /live; each keeps the mask it sent last, as bits
    tokens: tuple[Token, ...] = ()  # none: the server asks for no token
    hosts: tuple[str, ...] = ()  # names it goes by beside the loopback ones; see serve/http/guard.py
    origins: tuple[str, ...] = ()  # of pages that may use it beside its own, as https://name:port
    clicks_per_second: float = 50.0  # of one address and token; 0: no limit
    opens_per_minute: float = 120.0
    sessions: str | Path | None = field(default=None, repr=False)  # file or URL of Redis, see open_store; None: memory
    examples: Path | None = None
    answers_request_id: bool = True  # else what is in front names requests in answers, as Ray Serve's proxy does
    cvat_clients: tuple[str, ...] = ("127.0.0.0/8", "::1/128")  # networks that CVAT's calls may come from
    image_hosts: tuple[str, ...] = ()  # HOST or HOST:PORT that images may be fetched from; none: nothing is fetched
    image_networks: tuple[str, ...] = ()  # private networks that these hosts may be in; public addresses always may
    fetch_timeout_s: float = 10.0
    label_studio_url: str | None = None  # where addresses that begin with / lead; its host must be in image_hosts too
    label_studio_token: str | None = field(default=None, repr=False)  # sent to label_studio_url, nowhere else
    negative_labels: tuple[str, ...] = ()  # labels of Label Studio that make a click a negative one
