"""A client that brings its session to the clicks of each call: its cost, and the failures that it survives."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.interaction import Click, in_known_order
from serve.client import Client, ServerError
from serve.faces.cvat_agent import file_of
from serve.faces.remote_clicks import RemoteClicks
from serve.wire.images import decode_image
from tests.deep_files import values
from tests.serve.conftest import Server, encoded, mask_of, picture


@pytest.fixture
def client(server: Server) -> Client:
    client = Client("http://localhost", tries=1)
    client._http = server.client
    return client


@pytest.fixture
def clicks(client: Client) -> RemoteClicks:
    return RemoteClicks(client, encoded(picture()))


def native(server: Server, *clicks: tuple[float, float, bool]) -> np.ndarray:
    session = server.open()
    return mask_of([server.click(session, *click) for click in clicks][-1])


def test_only_changes_are_sent(server: Server, clicks: RemoteClicks) -> None:
    a, b, c = (30.4, 20.6), (36.0, 20.0), (33.9, 20.0)
    for positive, negative, num_forwards in [
        ([a], [], 1),
        ([a], [c], 2),
        ([a, b], [c], 3),
        ([a, b], [c], 3),
        ([a, b], [], 4),  # the second of three clicks taken back: the third is made again
        ([a], [], 4),
        ([b], [], 5),
    ]:
        mask = clicks.mask(positive, negative)
        assert (server.predictor.num_opened, server.predictor.num_forwards) == (1, num_forwards)
    np.testing.assert_array_equal(mask, native(server, (36, 20, True)))


def test_the_order_is_that_of_the_calls(server: Server, clicks: RemoteClicks) -> None:
    clicks.mask([(30, 20)], [])
    clicks.mask([(30, 20)], [(33, 20)])
    mask = clicks.mask([(30, 20), (36, 20)], [(33, 20)])
    expected = native(server, (30, 20, True), (33, 20, False), (36, 20, True))
    np.testing.assert_array_equal(mask, expected)


def test_no_clicks_give_an_empty_mask(clicks: RemoteClicks) -> None:
    assert not clicks.mask([], []).any()
    assert clicks.mask([(30, 20)], []).any()
    assert not clicks.mask([], []).any()


def test_an_expired_session_is_opened_again(server: Server, clicks: RemoteClicks) -> None:
    clicks.mask([(30, 20)], [])
    server.now += server.options.idle_timeout_s + 1
    mask = clicks.mask([(30, 20)], [(33, 20)])
    np.testing.assert_array_equal(mask, native(server, (30, 20, True), (33, 20, False)))


def test_a_new_session_starts_after_a_refusal(server: Server, clicks: RemoteClicks, client: Client) -> None:
    opened: list[bytes] = []
    open_ = client.open
    client.open = lambda image, mask=None: (opened.append(b""), open_(image, mask))[1]  # type: ignore[method-assign]
    clicks.mask([(30, 20)], [])
    with pytest.raises(ServerError, match="bad_click"):
        clicks.mask([(30, 20), (70, 20)], [])
    assert not opened
    np.testing.assert_array_equal(clicks.mask([(30, 20)], []), native(server, (30, 20, True)))
    assert len(opened) == 1


@pytest.mark.parametrize(("place", "pixel"), [((60, 40), (59, 39)), ((59.9, 0.0), (59, 0)), ((0.5, 39.5), (0, 39))])
def test_places_are_measured_from_the_corner(
    server: Server, clicks: RemoteClicks, place: tuple[float, float], pixel: tuple[int, int]
) -> None:
    np.testing.assert_array_equal(clicks.mask([place], []), native(server, (*pixel, True)))


@pytest.mark.parametrize("place", [(-0.1, 5), (5, -0.1), (60.5, 5), (5, 41)])
def test_places_off_the_image(clicks: RemoteClicks, place: tuple[float, float]) -> None:
    with pytest.raises(ServerError, match="bad_click"):
        clicks.mask([place], [])


def test_the_same_place_twice(server: Server, clicks: RemoteClicks) -> None:
    expected = native(server, (30, 20, True), (30, 20, False), (30, 20, True))
    clicks.mask([(30, 20)], [])
    clicks.mask([(30, 20)], [(30, 20)])
    np.testing.assert_array_equal(clicks.mask([(30, 20), (30, 20)], [(30, 20)]), expected)


def test_order() -> None:
    a, b, c = Click(y=0, x=0), Click(y=0, x=1), Click(y=0, x=2, positive=False)
    assert in_known_order([], [a, b], [c]) == (a, b, c)
    assert in_known_order([a, c], [a, b], [c]) == (a, c, b)
    assert in_known_order([a, c, b], [a, b], []) == (a, b)
    assert in_known_order([b, a], [a, b], [c]) == (a, b, c), "other clicks than those of the earlier call"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_images_of_all_kinds_become_files(client: Client, mode: str) -> None:
    image = Image.fromarray(picture()[..., 0].astype(np.uint16) * 256) if mode == "I;16" else None
    image = image or Image.fromarray(picture()).convert(mode)
    image.info["exif"] = b"would turn it"
    assert RemoteClicks(client, file_of(image)).hw == (40, 60)
    assert image.info["exif"], "the agent's image is not ours to change"


def test_large_images_are_sent_as_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    image: Any = Image.fromarray(picture())
    assert file_of(image).startswith(b"\x89PNG")
    monkeypatch.setattr("serve.faces.cvat_agent.MAX_FILE_BYTES", 5000)
    assert file_of(image).startswith(b"\xff\xd8")


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_an_agents_image_keeps_its_bits(mode: str) -> None:
    deep = values(12, (40, 60))
    image = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(deep.astype({"I": "i4", "I;16B": ">u2"}[mode]))
    assert image.mode == mode
    np.testing.assert_array_equal(decode_image(file_of(image), 10_000)[..., 0], deep >> 4)
