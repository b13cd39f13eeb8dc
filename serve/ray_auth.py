"""How a Ray of our own knows its processes; it must be said before ray is first imported, which reads it once."""

import os
import secrets

CHOSEN = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def prepare_ray_auth() -> None:
    """Give a Ray that is about to start here a new token, unless the environment already decides.

    Otherwise Ray would write a token file into the home folder. The jobs follow the same rule.
    """
    if not any(os.environ.get(name) for name in CHOSEN):
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
