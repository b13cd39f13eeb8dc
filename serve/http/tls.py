"""Check a TLS certificate and its key before the server starts."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from models.errors import InputError

WRONG_TIME = {9: "is not valid yet", 10: "has expired"}
"""By OpenSSL's error number (X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED)."""
NUM_ROUNDS = 4
"""One more than the messages that either side sends in a handshake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Paths of PEM files: the certificate, followed by any intermediate ones, and its key without a password."""

    certificate: str
    key: str

    @classmethod
    def of(cls, certificate: str | None, key: str | None) -> Self | None:
        """Return both as absolute paths, or None if neither is given; raises InputError if only one is."""
        if certificate and key:
            return cls(certificate=str(Path(certificate).resolve()), key=str(Path(key).resolve()))
        if certificate or key:
            given, missing = ("--certificate", "--key") if certificate else ("--key", "--certificate")
            raise InputError(f"{given} was given without {missing}: give both for TLS, or neither")
        return None

    def check(self) -> str | None:
        """Return a warning if clients will refuse the certificate, else None; raises InputError for unusable files."""
        for path, flag in ((self.certificate, "--certificate"), (self.key, "--key")):
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise InputError(f"{flag} {path} cannot be read: {error.strerror}") from None
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted
        try:
            client.load_verify_locations(self.certificate)
        except ssl.SSLError:
            raise InputError(
                f"--certificate {self.certificate} contains no certificate: expected PEM, -----BEGIN CERTIFICATE-----"
            ) from None
        return _complaint(client, self._server(), self.certificate)

    def _server(self) -> ssl.SSLContext:
        def no_password() -> str:
            raise InputError(f"--key {self.key} needs a password: give a key without one, readable only by its owner")

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise InputError(
                    f"--key {self.key} does not belong to the certificate {self.certificate}: give its private key"
                ) from None
            raise InputError(
                f"--certificate {self.certificate} and --key {self.key} cannot be used ({error.reason or error}): "
                "expected PEM, the server's certificate first, and a private key"
            ) from None
        return context


def _complaint(client: ssl.SSLContext, server: ssl.SSLContext, certificate: str) -> str | None:
    """Return why a client that trusts the certificate would refuse it, if it would.

    The answer comes from a handshake in memory, because `ssl` offers no function that checks the dates.
    """
    from_client, from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(from_server, from_client),
        server.wrap_bio(from_client, from_server, server_side=True),
    ]
    for end in ends * NUM_ROUNDS:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            wrong = WRONG_TIME.get(error.verify_code)
            return wrong and f"the certificate {certificate} {wrong}: clients will refuse it"
    return None
