"""`python -m serve.access NAME ROLE`: make a token, as a secret for its owner and a line for the server's file."""

import sys

from models.errors import InputError
from serve.core.tokens import ROLES, new_token


def main() -> None:
    """Print a new token. Only the line for the file goes to stdout, so that `>> FILE` appends it."""
    if len(sys.argv) != 3:
        sys.stderr.write(f"usage: python -m serve.access NAME ROLE   (roles: {', '.join(ROLES)})\n")
        sys.exit(2)
    try:
        secret, line = new_token(sys.argv[1], sys.argv[2])
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    sys.stderr.write(f"secret for its owner, shown only this once: {secret}\n")
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
