"""The numbered checks: what the server and the jobs must survive, and the page that lists them.

    python -m tests.checks      # writes docs/CHECKS.md

A test that holds check 37 carries `@pytest.mark.check(37)`; the page finds it by that mark.
"""

import ast
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/CHECKS.md"

CHECKS: dict[int, tuple[str, str]] = {
    1: ("A request body over the size limit is refused before it is read into memory.", "413 `body_too_large`"),
    2: (
        "An image with too many pixels is refused from its header (PNG, JPEG, WebP; from CVAT also TIFF, BMP, GIF). "
        "The limit may be higher than Pillow's.",
        "422 `image_too_large`",
    ),
    3: (
        "Three image formats are accepted, recognised by content, and each decoder is named. CVAT sends original "
        "files, so TIFF, BMP and GIF are also taken from it and converted to PNG on arrival.",
        "415 `unsupported_image`",
    ),
    4: ("A thousand damaged images in a row are refused and leave the server unchanged.", "422 `bad_image`"),
    5: ("Images with 16 bits, palettes, CMYK, alpha, EXIF or animation keep their colours.", ""),
    6: ("Clicks outside the image, clicks that are not numbers, and too many clicks are refused.", "422 `bad_click`"),
    7: ("Unknown fields are refused under /v1, and ignored from Label Studio and CVAT.", "422 `bad_request`"),
    8: ("Malformed base64 and data URIs are refused.", "422 `bad_encoding`"),
    9: ("Run lengths that do not add up to the image's size are refused.", "422 `bad_rle`"),
    10: (
        "JSON that is deeply nested, very wide, or has duplicate keys is refused.",
        "400 `bad_json`, 413 `body_too_large`",
    ),
    11: ("Compressed request bodies are refused.", "415 `unsupported_body`"),
    12: ("No archive is unpacked. An archive in place of an image is refused.", "415 `unsupported_image`"),
    13: (
        "A COCO file of any size is listed in bounded memory and its bad rows are named by id; the job prints one "
        "message and exits with status 2.",
        "",
    ),
    14: ("The server fetches no URL unless it was configured to.", "403 `url_fetch_disabled`"),
    15: ("URLs that lead to private addresses are refused, however they are written.", "403 `url_blocked`"),
    16: (
        "Redirects and DNS rebinding cannot reach a private address; endless and slow files are abandoned.",
        "403 `url_blocked`, 502 `url_failed`",
    ),
    17: ("Label Studio's token is sent to Label Studio and to no other host.", ""),
    18: ("A request cannot bring its own model.", "422 `bad_request`"),
    19: (
        "Code in a checkpoint file is refused and never runs: the job prints one message and exits with status 2.",
        "",
    ),
    20: ("Foreign weights enter through a job, which stores them as safetensors with a checksum.", ""),
    21: ("The server refuses to start on a damaged checkpoint, or on weights that produce NaN.", ""),
    22: (
        "Names with path characters do not reach the file system "
        "(`bad_request`, `model_unknown`, `bad_refinement`, `not_found`).",
        "422, 404",
    ),
    23: ("Maskwright stores and sends no pickles. (Ray's own are protected by its token.)", ""),
    24: (
        "Requests need a token, and its role limits what they may do.",
        "401 `token_missing`, `token_wrong`; 403 `forbidden`",
    ),
    25: ("Without tokens the server does not listen beyond this machine, unless `--insecure` is given.", ""),
    26: (
        "One token's sessions are unknown to another, over HTTP and WebSocket (close code 4404); ids are unguessable.",
        "404 `session_unknown`",
    ),
    27: ("Requests of foreign origins and to foreign host names are refused.", "403 `bad_origin`, 421 `bad_host`"),
    28: (
        "Ray's ports listen on loopback, or require Ray's token. Tried from a separate network namespace in place of a "
        "second machine.",
        "",
    ),
    29: ("Secrets appear in no log, no answer and no deployment's arguments.", ""),
    30: ("Internal errors show no paths and no tracebacks, and carry an id that is also in the log.", "500 `internal`"),
    31: ("Every answer has the security headers, and uploaded content is never served as a page.", ""),
    32: ("Each token has its own rate limits.", "429 `too_many`"),
    33: (
        "Concurrent sessions get the same masks as sessions one after another, bit for bit on a CPU. Requests for an "
        "image that is being encoded wait for it.",
        "",
    ),
    34: ("Clicks out of order are refused; a repeated click gets the same answer.", "409 `stale_sequence`"),
    35: (
        "Expired and unknown sessions are reported as such, and a session can be rebuilt from its state.",
        "410 `session_expired`, 404 `session_unknown`",
    ),
    36: (
        "Caches are bounded in bytes, and evicted entries are recomputed. What sessions share for one image counts "
        "once, and stays until the last of them ends.",
        "",
    ),
    37: ("A full session store and a full queue refuse with `Retry-After` of at most 5 s.", "503 `at_capacity`"),
    38: ("A request beyond capacity is refused within 50 ms.", "503 `at_capacity`"),
    39: ("A client that disconnects costs no forward pass (logged as 499 `client_gone`).", "499 `client_gone`"),
    40: ("A request that takes too long is cancelled, and its place is freed.", "504 `timeout`"),
    41: ("`kill -9` of any process loses no session.", "503 `unavailable`"),
    42: (
        "A device without free memory fails one request only. Tried by raising `torch.OutOfMemoryError`.",
        "503 `gpu_oom`",
    ),
    43: ("A network that produces NaN is reported, and its replica is replaced.", "500 `model_nan`, 503 `not_ready`"),
    44: ("A stalled network makes the server not ready, while its liveness probe still passes.", "503 `not_ready`"),
    45: (
        "A full or read-only disk: the server answers 503, as for a full Redis (tried by SQLite's limits); jobs print "
        "one message and exit with status 2.",
        "503 `unavailable`",
    ),
    46: ("Training that is killed or drained resumes from its last checkpoint.", ""),
    47: (
        "After Ray's head dies, a new head on the same store knows the job and reports it as `FAILED` once another job "
        "is submitted (until then as `RUNNING`). Tried by killing the process, with its store in Redis.",
        "",
    ),
    48: ("On SIGTERM the server answers what it has accepted and exits with status 0.", ""),
    49: ("A rolling update of the model fails no click.", ""),
    50: ("Schemathesis finds no answer that the OpenAPI document does not promise.", ""),
    51: ("Memory and open files stay flat over hours (`benchmarks/soak.py`, figures in benchmarks/RESULTS.md).", ""),
    52: (
        "Beyond capacity, throughput stays where it saturates and refusals stay quick (steps of load: "
        "`benchmarks/serve.py`).",
        "",
    ),
    53: ("The client libraries of Label Studio and CVAT understand every answer.", ""),
    54: ("Every answer says whether the mask follows its last click (`honoured`).", ""),
    55: ("Empty masks and masks of the whole image work in every encoding.", ""),
}
"""What each check demands, and the status and problem code with which the server answers."""

INTRODUCTION = """\
# Checks

What the server and the jobs must survive, one row a check, with the tests that hold it. This page is generated by
`python -m tests.checks` from `tests/checks.py` and from the marks `@pytest.mark.check(N)` on the tests. Tests of
`tests/serve` are named without their folder. Tests marked (slow) run with `make test-full`; those of `tests/clients`
run with `make test-clients`, in the environment of the client libraries.

| # | Check | Answer | Tests |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A test that holds one or more checks."""

    path: Path
    name: str
    slow: bool
    numbers: tuple[int, ...]

    def __str__(self) -> str:
        file = self.path.relative_to(ROOT).as_posix().removeprefix("tests/serve/")
        return f"`{file}::{self.name}`" + " (slow)" * self.slow


def holders_in(path: Path) -> list[Holder]:
    """Return the tests of a file that carry `@pytest.mark.check(...)`, in the order of the file."""
    found: list[Holder] = []

    def add(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{prefix}{node.name}::")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                marks = {ast.unparse(mark).split("(")[0]: mark for mark in node.decorator_list}
                check = marks.get("pytest.mark.check")
                if isinstance(check, ast.Call):
                    numbers = tuple(ast.literal_eval(number) for number in check.args)
                    found.append(Holder(path, f"{prefix}{node.name}", "pytest.mark.slow" in marks, numbers))

    add(ast.parse(path.read_text()).body, "")
    return found


def holders() -> dict[int, list[Holder]]:
    """Return the tests of each check, by file and by their order in it."""
    found: dict[int, list[Holder]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for holder in holders_in(path):
            for number in holder.numbers:
                found[number].append(holder)
    return found


def page() -> str:
    """Return the text of docs/CHECKS.md."""
    tests = holders()
    rows = (
        f"| {number} | {what} | {answer or 'none'} | {', '.join(map(str, tests[number])) or 'none'} |\n"
        for number, (what, answer) in CHECKS.items()
    )
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
