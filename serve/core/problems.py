"""Errors of the HTTP interface (RFC 9457): the table of stable codes, the exception, and the response body."""

from dataclasses import dataclass

CODES: dict[str, tuple[int, str]] = {
    "bad_request": (422, "The request does not have the expected fields"),
    "bad_click": (422, "The click cannot be used"),
    "bad_json": (400, "The body is not JSON"),
    "bad_form": (400, "The multipart body cannot be read"),
    "bad_encoding": (422, "The base64 text or data URI cannot be decoded"),
    "bad_image": (422, "The image cannot be decoded"),
    "bad_mask": (422, "The mask cannot be used"),
    "bad_rle": (422, "The run-length encoding cannot be used"),
    "image_missing": (422, "The request has no image"),
    "image_too_large": (422, "The image has too many pixels"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_image": (415, "The image format is not supported"),
    "unsupported_body": (415, "The content type or encoding of the body is not supported"),
    "token_missing": (401, "The server asks for a token"),
    "token_wrong": (401, "The server does not know this token"),
    "forbidden": (403, "The token's role does not allow this"),
    "bad_origin": (403, "The request comes from a page of another server"),
    "bad_host": (421, "The server does not accept this host name"),
    "too_many": (429, "The client sends too many requests"),
    "address_refused": (403, "This address may not make this call"),
    "url_fetch_disabled": (403, "Images are not fetched from this host"),
    "url_blocked": (403, "This URL may not be fetched"),
    "url_failed": (502, "The image could not be fetched"),
    "not_found": (404, "There is nothing at this address"),
    "method_not_allowed": (405, "The address does not support this method"),
    "session_unknown": (404, "There is no such session"),
    "session_expired": (410, "The session was idle for too long"),
    "object_open": (409, "The current object is not finished"),
    "object_unknown": (404, "There is no such object"),
    "object_empty": (422, "The current object has no mask"),
    "too_many_objects": (422, "The session has reached its limit of objects"),
    "model_unknown": (422, "There is no such model"),
    "bad_refinement": (422, "The model does not allow this refinement"),
    "no_exemplar": (422, "The model takes no exemplar"),
    "stale_sequence": (409, "The change is out of order"),
    "at_capacity": (503, "The server is at its capacity"),
    "gpu_oom": (503, "The device has too little memory for this request"),
    "timeout": (504, "The model took too long"),
    "client_gone": (499, "The client left before the answer"),
    "not_ready": (503, "The model is not ready"),
    "unavailable": (503, "A part of the server does not answer"),
    "model_nan": (500, "The network produced values that are not numbers"),
    "internal": (500, "The server failed"),
}


@dataclass(eq=False)
class Problem(Exception):
    """An error response with a stable `code` from CODES; `pointer` is a JSON pointer to the offending value."""

    code: str
    detail: str
    pointer: str | None = None
    retry_after_s: int | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    @property
    def status(self) -> int:
        """HTTP status of the code."""
        return CODES[self.code][0]

    def headers(self) -> dict[str, str]:
        """Return the response headers besides the content type."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.status == 401:
            error = ', error="invalid_token"' if self.code == "token_wrong" else ""
            headers["WWW-Authenticate"] = f'Bearer realm="maskwright"{error}'
        # The rest of a refused body is never read, so the connection cannot be reused.
        return headers | {"Connection": "close"} if self.code == "body_too_large" else headers

    def body(self, instance: str, request_id: str | None = None) -> dict[str, object]:
        """Return the problem+json document.

        `instance` identifies this failure, also in the log; `request_id` identifies the request.
        """
        status, title = CODES[self.code]
        document: dict[str, object] = {
            "type": f"urn:maskwright:problem:{self.code}",
            "title": title,
            "status": status,
            "code": self.code,
            "detail": self.detail,
            "instance": instance,
        }
        if request_id is not None:
            document["request_id"] = request_id
        return document if self.pointer is None else document | {"pointer": self.pointer}
