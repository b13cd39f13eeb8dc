"""cluster.yaml and cluster-local.yaml in Ray's launcher, the former against a simulated EC2 and IAM."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import ray
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.deploy.run_dockerfile import FILE

ROOT = Path(__file__).parents[2]
NAMES = ("cluster.yaml", "cluster-local.yaml")
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize("name", NAMES)
def test_fits_the_schema(name: str) -> None:
    cluster = prepare_config(load(name))
    jsonschema.validate(cluster, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "surprise": 1}, SCHEMA)


@pytest.mark.parametrize("name", NAMES)
def test_passes_the_launcher(name: str) -> None:
    """The schema misses a wrong head type and minimum workers above the maximum; the launcher does not."""
    cluster = load(name)
    validate_config(prepare_config(cluster))
    with pytest.raises(Exception, match=r"head_node_type|max_workers"):
        validate_config(prepare_config({**cluster, "head_node_type": "unknown", "max_workers": -1}))


@pytest.mark.parametrize("name", NAMES)
def test_its_images_are_ours_and_its_nodes_have_the_token(name: str) -> None:
    cluster = load(name)
    docker = [cluster["docker"], *(each.get("docker", {}) for each in cluster.get("available_node_types", {}).values())]
    images = [value for each in docker for key, value in each.items() if key.endswith("image")]
    assert images
    for image in images:
        assert f"maskwright:{image.rpartition(':')[2]} " in FILE.read_text()  # as it is built
    options = cluster["docker"]["run_options"]
    assert "-e RAY_AUTH_MODE=token" in options
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


@pytest.mark.parametrize("name", NAMES)
def test_has_the_resources_that_jobs_request(name: str) -> None:
    cluster = load(name)
    text = json.dumps([cluster.get("available_node_types"), cluster["worker_start_ray_commands"]])
    text += json.dumps(cluster["head_start_ray_commands"])
    for resource in ("driver", "augment"):
        assert re.search(rf"\W{resource}\W", text)


def test_the_head_has_no_cpus_for_tasks() -> None:
    types = load("cluster.yaml")["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["gpu_workers"]["resources"]["GPU"] > 0
    spot = types["gpu_spot_workers"]
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    same = {key: value for key, value in spot["node_config"].items() if key != "InstanceMarketOptions"}
    assert same == types["gpu_workers"]["node_config"]


def test_your_own_machines_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("0" * 64)
    cluster = _bootstrap_config(load("cluster-local.yaml"), no_config_cache=True)
    (kind,) = cluster["available_node_types"].values()
    assert kind["max_workers"] == len(cluster["provider"]["worker_ips"])
    assert cluster["docker"]["head_image"] != cluster["docker"]["worker_image"]


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """cluster.yaml after the launcher has prepared it for an account that has only the role of deploy/aws."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("0" * 64)
    with mock_aws():
        iam = boto3.client("iam", region_name="us-west-2")
        trust, policy = ((ROOT / "deploy/aws" / name).read_text() for name in ("trust.json", "policy.json"))
        iam.create_role(RoleName="maskwright", AssumeRolePolicyDocument=trust)
        iam.put_role_policy(RoleName="maskwright", PolicyName="maskwright", PolicyDocument=policy)
        iam.create_instance_profile(InstanceProfileName="maskwright")
        iam.add_role_to_instance_profile(InstanceProfileName="maskwright", RoleName="maskwright")
        yield _bootstrap_config(load("cluster.yaml"), no_config_cache=True)


@pytest.mark.networks
def test_aws_gives_keys_subnets_and_groups(aws: dict[str, Any], tmp_path: Path) -> None:
    ec2 = boto3.client("ec2", region_name="us-west-2")
    subnets = {subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]}
    groups = {group["GroupId"] for group in ec2.describe_security_groups()["SecurityGroups"]}
    (key,) = [key["KeyName"] for key in ec2.describe_key_pairs()["KeyPairs"]]
    assert Path(aws["auth"]["ssh_private_key"]).is_relative_to(tmp_path)
    for kind in aws["available_node_types"].values():
        config = kind["node_config"]
        assert config["SubnetIds"]
        assert set(config["SubnetIds"]) <= subnets
        assert set(config["SecurityGroupIds"]) <= groups
        assert config["KeyName"] == key
        assert config["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/ami/x86_64/")
    # The role is that of deploy/aws: the launcher created none with all rights.
    assert [role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"]] == ["maskwright"]


@pytest.mark.networks
def test_a_node_of_each_kind_starts(aws: dict[str, Any]) -> None:
    provider = AWSNodeProvider(aws["provider"], aws["cluster_name"])
    kinds = aws["available_node_types"]
    assert kinds.keys() == {"head", "driver", "cpu_workers", "gpu_workers", "gpu_spot_workers"}
    ec2 = boto3.client("ec2", region_name="us-west-2")
    for name, kind in kinds.items():
        (instance,) = provider.create_node(kind["node_config"], {"ray-user-node-type": name}, 1).values()
        ((described,),) = [
            each["Instances"] for each in ec2.describe_instances(InstanceIds=[instance.id])["Reservations"]
        ]
        assert described["IamInstanceProfile"]["Arn"].endswith("instance-profile/maskwright"), name
        assert (described.get("InstanceLifecycle") == "spot") == (name == "gpu_spot_workers"), name
        assert described["InstanceType"] == kind["node_config"]["InstanceType"]
