"""The manifests of deploy/kuberay fit KubeRay's schemas, Ray Serve's schema and the command lines of the jobs."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobs.cli import parse, take_preset
from jobs.config import EvaluateConfig, SweepConfig
from jobs.prepare import PrepareConfig
from jobs.train import read_flags
from models.storage import is_address
from pipeline.tuning.spaces import spaces
from serve.core.options import Options
from serve.core.sources import read_sources
from tests.deploy.manifests import FOLDER, documents
from tests.deploy.reduce_schemas import SCHEMAS

ROOT = Path(__file__).parents[2]
DOCUMENTS = list(documents())
OF_RAY = [(name, document) for name, document in DOCUMENTS if document["apiVersion"] == "ray.io/v1"]
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())


def schema_of(document: dict[str, Any]) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{document['kind']}.json").read_text())


def cluster_of(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def entrypoint(name: str) -> list[str]:
    ((_, document),) = [each for each in OF_RAY if each[0] == f"{name}.yaml"]
    words = shlex.split(document["spec"]["entrypoint"].replace("$BUCKET", "my-bucket"))
    assert words[:3] == ["python", "-m", f"jobs.{name}"]
    return words[3:]


@pytest.mark.parametrize(("name", "document"), OF_RAY, ids=[name for name, _ in OF_RAY])
def test_fits_the_schema(name: str, document: dict[str, Any]) -> None:
    schema = schema_of(document)
    jsonschema.validate(document, schema)
    for spoiled in ({"surprise": 1}, {"suspend": "no"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, "spec": document["spec"] | spoiled}, schema)


def test_everything_is_listed() -> None:
    text = (FOLDER / "kustomization.yaml").read_text()
    listed = set(re.findall(r"^  (?:# )?- ([\w-]+\.yaml)", text, re.M)) | {p["path"] for p in KUSTOMIZATION["patches"]}
    assert listed == {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}


@pytest.mark.parametrize(("name", "document"), OF_RAY, ids=[name for name, _ in OF_RAY])
def test_clusters_are_as_the_code_expects(name: str, document: dict[str, Any]) -> None:
    cluster = cluster_of(document)
    (locked,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert cluster["rayVersion"] == locked
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # no work on the head
    assert cluster["authOptions"]["mode"] == "token"
    images = {image["name"] for image in KUSTOMIZATION["images"]}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            assert container["image"] in images
            assert {"configMapRef": {"name": "maskwright-settings"}} in container["envFrom"]
            assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (container["image"] == "maskwright-cuda")
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["maxReplicas"]


def test_the_commands_of_jobs_are_valid() -> None:
    prepare = parse(PrepareConfig, entrypoint("prepare"), prog="prepare")
    _, train = read_flags(entrypoint("train"), "train")
    evaluate = parse(EvaluateConfig, entrypoint("evaluate"), prog="evaluate")
    space, _, rest = take_preset(entrypoint("sweep"), spaces(), "sweep")
    sweep = parse(SweepConfig, rest, prog=f"sweep {space}")
    for place in (prepare.root, prepare.out, train.data.root, train.out, evaluate.checkpoint, evaluate.root, sweep.out):
        assert place is not None
        assert is_address(place)
    assert evaluate.checkpoint == f"{train.out}/checkpoint"
    offered = {
        word
        for _, document in OF_RAY
        for group in cluster_of(document)["workerGroupSpecs"]
        for word in re.findall(r'\\"(\w+)\\"', group["rayStartParams"].get("resources", ""))
    }
    for nodes in (prepare.nodes, train.scaling.data_nodes, evaluate.scaling.nodes, sweep.scaling.nodes):
        assert nodes in offered


def test_ray_and_the_server_accept_the_service() -> None:
    from ray.serve.schema import ServeDeploySchema

    ((_, document),) = [each for each in OF_RAY if each[0] == "service.yaml"]
    config = yaml.safe_load(document["spec"]["serveConfigV2"])
    schema = ServeDeploySchema.model_validate(config)
    assert schema.proxy_location == "EveryNode"
    assert schema.http_options.host == "0.0.0.0"
    (application,) = config["applications"]
    assert application["import_path"] == "serve.deployments:build_app"
    options = Options.of(dict(application["args"]))
    assert read_sources(application["args"]["checkpoint"])
    redis = {document["metadata"]["name"] for name, document in DOCUMENTS if name == "redis.yaml"}
    assert str(options.sessions).startswith(f"redis://{redis.pop()}:6379/")
    # The file of tokens is in the folder where the Secret is mounted, in every pod that can run an ingress.
    cluster = cluster_of(document)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (mount,) = pod["containers"][0]["volumeMounts"]
        assert str(options.tokens).startswith(mount["mountPath"] + "/")
        assert [volume["name"] for volume in pod["volumes"]] == [mount["name"]]
    slowest = max(float(each.get("graceful_shutdown_timeout_s", 20)) for each in application["deployments"])
    for group in cluster["workerGroupSpecs"]:
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > slowest + 15


def test_clusters_have_separate_services_and_a_driver_for_submitted_jobs() -> None:
    names = [document["metadata"]["name"] for _, document in OF_RAY]  # KubeRay makes NAME-head-svc of each
    assert len(set(names)) == len(names)
    guide = (ROOT / "docs/CLUSTER.md").read_text()
    ((_, cluster),) = [each for each in OF_RAY if each[0] == "cluster.yaml"]
    name = cluster["metadata"]["name"]
    assert f"service/{name}-head-svc 8265" in guide
    assert f"get secret {name} " in guide
    for document in (document for _, document in OF_RAY if document["kind"] != "RayService"):
        groups = cluster_of(document)["workerGroupSpecs"]
        (driver,) = [group for group in groups if "driver" in group["rayStartParams"].get("resources", "")]
        assert driver["minReplicas"] == 1
