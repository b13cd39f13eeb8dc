"""Tensors pass through serve/on_ray/travel.py unchanged, and without data that does not belong to them."""

import pickle
from typing import Any

import pytest
import torch

from models.exemplar import Exemplar
from models.interaction import Clicks
from models.steps import Correct, Encode, Segment, Start
from serve.on_ray.travel import Sent, pack, unpack

CLICKS = Clicks.of([(3.0, 4.0, True), (1.0, 2.0, False)])


def some(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


REQUESTS = [
    Segment(some(3, 8, 9), some(1, 8, 9), CLICKS, example=Exemplar(some(1, 8, 9), CLICKS, CLICKS, CLICKS)),
    Segment(some(3, 8, 9), some(1, 8, 9), CLICKS, focus=True),
    Start(some(3, 8, 9), Exemplar(some(1, 8, 9), CLICKS, CLICKS, CLICKS)),
    Encode(some(3, 8, 9), some(1, 8, 9), CLICKS),
    Correct(some(3, 8, 9), some(5, 2, 3), some(1, 2, 3), CLICKS),
]


def tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [found for each in value for found in tensors(each)]
    if isinstance(value, Segment | Start | Encode | Correct | Exemplar):
        return [found for name in value.__dataclass_fields__ for found in tensors(getattr(value, name))]
    return []


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: type(each).__name__)
def test_requests_arrive_as_they_were_sent(request_: Any) -> None:
    back = unpack(pickle.loads(pickle.dumps(pack([request_]))))[0]
    assert type(back) is type(request_)
    assert back.kind == request_.kind
    if not isinstance(request_, Start):
        assert back.clicks.rows() == request_.clicks.rows()
    assert len(tensors(request_)) == len(tensors(back)) >= 2
    for sent, got in zip(tensors(request_), tensors(back), strict=True):
        assert torch.equal(sent, got)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_answers_keep_their_type(dtype: torch.dtype) -> None:
    answer = [(some(4, 5, dtype=dtype), some(1, 5, dtype=dtype))]
    back = unpack(pack(answer))
    assert isinstance(back[0], tuple)
    for sent, got in zip(answer[0], back[0], strict=True):
        assert got.dtype == dtype
        assert torch.equal(sent, got)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_keep_their_memory_layout(dtype: torch.dtype) -> None:
    upright = some(4, 5, 6, dtype=dtype)
    for tensor in (upright, upright.permute(1, 2, 0), upright.permute(2, 0, 1), upright[0, 0, 0]):
        back = unpack(pickle.loads(pickle.dumps(pack(tensor))))
        assert torch.equal(back, tensor)
        assert back.stride() == tensor.stride()


def test_a_view_is_sent_without_its_base() -> None:
    view = torch.zeros(100, 1000)[0]
    assert len(pickle.dumps(pack(view))) < 5000 < len(pickle.dumps(view))


def test_received_tensors_are_writable() -> None:
    packed = pack(torch.zeros(3))
    assert isinstance(packed, Sent)
    packed.array.flags.writeable = False  # as it is in Ray's memory
    unpack(packed)[0] = 1
    assert packed.array[0] == 0
