"""Tokens with roles. The server stores only the SHA-256 of each secret, so its file of tokens grants no access."""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from models.errors import InputError
from serve.core.options import Options
from serve.core.problems import Problem

Role = Literal["annotator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[\w.@-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A person or program with access: `sha256` (hex) of a secret that only the owner has."""

    name: str
    role: Role
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Secrets that the process that answers HTTP reads by itself, so that no option holds or shows them."""

    tokens: tuple[Token, ...] = field(default=(), repr=False)
    """Empty: the server requires no token."""
    label_studio: str | None = field(default=None, repr=False)
    """Label Studio's token, sent only to `Options.label_studio_url`."""

    @classmethod
    def of(cls, options: Options) -> "Secrets":
        """Read the file of tokens and the environment, LABEL_STUDIO_API_KEY; raises InputError."""
        tokens = read_tokens(Path(options.tokens)) if options.tokens else ()
        return cls(tokens=tokens, label_studio=os.environ.get("LABEL_STUDIO_API_KEY"))


def find(secret: str, tokens: Sequence[Token]) -> Token:
    """Return the token of a secret, in a time that does not depend on which one it is; raises token_wrong."""
    digest, found = digest_of(secret), None
    for token in tokens:
        if hmac.compare_digest(token.sha256, digest):
            found = token
    if found is None:
        raise Problem("token_wrong", "no token has this secret")
    return found


def digest_of(secret: str) -> str:
    """Return the SHA-256 (hex) of a secret, which is all that the server stores."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a file of lines `name role sha256hex`, skipping empty lines and # comments; raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file of tokens {path} cannot be read: {error}") from None
    tokens: list[Token] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            tokens.append(_token(words))
        except ValueError as error:
            # Never show the line: it may contain a secret by mistake.
            raise InputError(f"{path}, line {number}: {error}; `python -m serve.access NAME ROLE` makes one") from None
    if not tokens:
        raise InputError(f"the file of tokens {path} is empty; `python -m serve.access NAME ROLE` makes a token")
    if len({token.name for token in tokens}) < len(tokens) or len({token.sha256 for token in tokens}) < len(tokens):
        raise InputError(f"{path}: two tokens have the same name or secret; make a separate token for each person")
    return tuple(tokens)


def _token(words: list[str]) -> Token:
    if len(words) != 3:
        raise ValueError(f"expected name, role and SHA-256, got {len(words)} words")
    name, role, sha256 = words
    if not NAME.fullmatch(name):
        raise ValueError("the name is not 1 to 64 letters, digits, or any of . _ @ -")
    if role not in ROLES:
        raise ValueError(f"the role is not one of {', '.join(ROLES)}")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError("the third word is not a SHA-256 of 64 hex digits")
    return Token(name=name, role=role, sha256=sha256.lower())


def new_token(name: str, role: str) -> tuple[str, str]:
    """Return a new secret and its line for the server's file; raises InputError for an invalid name or role."""
    secret = secrets.token_urlsafe(32)
    line = f"{name} {role} {digest_of(secret)}"
    try:
        _token([name, role, digest_of(secret)])
    except ValueError as error:
        raise InputError(str(error)) from None
    return secret, line
