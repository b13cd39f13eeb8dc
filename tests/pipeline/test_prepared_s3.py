"""Prepared data sets in a bucket: a real S3 server on loopback, real requests, and the loss of the server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import InputError
from models.storage import Storage, without_key
from pipeline.data import local, ray_data
from pipeline.data.config import DataConfig
from pipeline.data.prepared.epoch import read_rows
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.readers import open_reader
from pipeline.data.rows import split
from pipeline.pages.data_report import write_epoch_report, write_prepared_report
from tests.bucket import a_bucket
from tests.pipeline.fakes import FakeReader
from tests.pipeline.test_epoch import CONFIG, write
from tests.pipeline.test_prepared import assert_same, prepared
from tests.pipeline.test_stream import equal

READER = FakeReader(num_items=9, bad=(1,))


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with a_bucket() as address:
        yield address


def test_a_bucket_holds_what_a_folder_holds(bucket: str, tmp_path: Path) -> None:
    uri = bucket.format(folder="some/set")
    prepare(READER, Storage(uri), {"reader": "fake"}, run=run_here(2), items_per_part=4)
    there, here = open_reader("prepared", uri), prepared(READER, tmp_path)
    assert [item.id for item in there.items()] == [item.id for item in here.items()]
    for a, b in zip(there.items(), here.items(), strict=True):
        assert_same(there.load(a), here.load(b))
    manifest = Storage(uri).read_json("manifest.json")
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())
    assert not Storage(uri).exists("plan")
    with pytest.raises(InputError, match="no split"):
        open_reader("prepared", uri, split="val")


def test_an_interrupted_upload_resumes(bucket: str) -> None:
    storage = Storage(bucket.format(folder="later"))
    run = run_here(2)

    def stop(maker, storage, parts):
        yield next(iter(run(maker, storage, parts)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(READER, storage, {}, run=stop, items_per_part=4)
    with pytest.raises(InputError, match="has not finished"):
        open_reader("prepared", storage.uri)
    made = []

    def rest(maker, storage, parts):
        made.extend(parts)
        return run(maker, storage, parts)

    assert prepare(READER, storage, {}, run=rest, items_per_part=4)["num_rows"] == 8
    assert made == [1, 2]


def test_a_bucket_that_is_gone_is_one_clear_error_without_the_key(bucket: str) -> None:
    other = bucket.replace("@masks", "@nothing").format(folder="set")
    with pytest.raises(InputError, match=r"s3://nothing/set.*run the same command again") as caught:
        prepare(READER, Storage(other), {}, run=run_here())
    assert "secret" not in str(caught.value)
    assert without_key("s3://a:b@c/d?e=f") == "s3://c/d"


@pytest.mark.networks
def test_an_epoch_and_the_pages_go_to_a_bucket_too(bucket: str, tmp_path: Path) -> None:
    there, here = Storage(bucket.format(folder="epoch")), write(READER, tmp_path)
    write(READER, there.uri)
    assert all(equal(a, b) for a, b in zip(read_rows(there), read_rows(here), strict=True))
    assert there.read_json("manifest.json") == here.read_json("manifest.json")
    write_epoch_report(there, CONFIG, "In a bucket")
    page = there.read("report.html").decode()
    assert "s3://masks/epoch" in page
    assert "secret" not in page
    uri = bucket.format(folder="page")
    prepare(READER, Storage(uri), {}, run=run_here(2))
    write_prepared_report(Storage(uri), "Prepared in a bucket")
    assert b"Prepared in a bucket" in Storage(uri).read("report.html")


@pytest.mark.ray
def test_the_stream_reads_a_bucket_through_ray(ray_cluster: None, bucket: str) -> None:
    uri = bucket.format(folder="stream")
    prepare(READER, Storage(uri), {}, run=run_here(2), items_per_part=4)
    reader = open_reader("prepared", uri)
    config = DataConfig(crop_hw=(32, 40), window_size=4, min_object_area=20)
    expected = [row for row, _ in zip(local.stream(reader, config), range(8), strict=False)]
    batches = ray_data.dataset(reader, config, range(2), actors=2).iter_batches(batch_size=None)
    found = [row for batch in batches for row in split(batch)]
    assert [row["item"] for row in found] == [row["item"] for row in expected]
    assert all((a["image"] == b["image"]).all() for a, b in zip(found, expected, strict=True))
