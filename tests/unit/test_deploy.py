"""cluster.yaml, the Dockerfile and deploy/: valid for those who read them, and of one version."""

from __future__ import annotations

import copy
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests import kuberay
from tonearm.errors import ClusterError
from tonearm.planning import layout as layouts

ROOT = Path(__file__).resolve().parents[2]
KUBERAY = sorted(Path(ROOT, "deploy/kuberay").glob("*.yaml"))


def constraint(name: str) -> str:
    (version,) = re.findall(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    return str(version)


def launcher() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return values


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(config))
    validate_config(config)
    return config


def test_rays_own_validators_take_cluster_yaml() -> None:
    config = prepared(launcher())
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}, "the head takes no work"
    assert config["max_workers"] >= sum(
        kind["max_workers"] for name, kind in launcher()["available_node_types"].items() if name != "head"
    )
    # Without setup_commands of its own, Ray installs a nightly wheel over the image's.
    assert config["setup_commands"] == launcher()["setup_commands"] and config["setup_commands"]
    assert "wheels" not in str(config["setup_commands"])


@pytest.mark.parametrize(
    "change", [{"min_workers_total": 1}, {"head_node_type": "boss"}, {"provider": {"type": "moon"}}]
)
def test_the_validators_would_refuse_a_mistake(change: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"."):
        prepared(launcher() | change)


def run_instances_errors(node_config: dict[str, Any]) -> str:
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    report = ParamValidator().validate({"MinCount": 1, "MaxCount": 1} | node_config, shape)
    return str(report.generate_report())


def test_ec2_takes_every_node_config() -> None:
    for name, kind in launcher()["available_node_types"].items():
        assert run_instances_errors(kind["node_config"]) == "", name
        assert kind["node_config"]["IamInstanceProfile"]["Name"], "no keys on the machines"
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    assert "InstanceTyp" in run_instances_errors({"InstanceTyp": "m7i.large"})
    assert run_instances_errors({"InstanceMarketOptions": {"MarketType": 3}})


def test_what_a_run_needs_fits_the_cluster() -> None:
    """The head alone is refused (the job waits for workers); with the first of each kind the run is laid out."""
    kinds = launcher()["available_node_types"]
    nodes = [{"CPU": float(kinds["decode"]["resources"]["CPU"])}, {"CPU": 4.0, "GPU": 1.0}]
    with pytest.raises(ClusterError):
        layouts.plan([{"CPU": 0.0}], None, is_local=False)
    layout = layouts.plan([{"CPU": 0.0}, *nodes], None, is_local=False)
    assert (layout.num_scorers, layout.scorer_gpus) == (1, 1.0)


def test_on_demand_where_there_is_no_spot() -> None:
    """Ray's autoscaler itself chooses: spot first, on demand while launching spot has just failed."""
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

    kinds = {
        name: NodeTypeConfig(
            name=name,
            min_worker_nodes=0,
            max_worker_nodes=kind.get("max_workers", 1),
            priority=kind.get("priority", 0),
            resources=kind["resources"],
        )
        for name, kind in launcher()["available_node_types"].items()
    }

    def launched(availability: dict[str, float]) -> dict[str, int]:
        wanted = [ResourceRequestUtil.make({"GPU": 1, "CPU": 0.9})] * 3
        request = SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=kinds,
            max_num_nodes=20,
            resource_requests=[ResourceRequestByCount(request=each, count=1) for each in wanted],
            recoverable_resource_availabilities=availability,
        )
        reply = ResourceDemandScheduler(event_logger=None).schedule(request)
        return {each.instance_type: each.count for each in reply.to_launch if each.instance_type != "head"}

    assert launched({}) == {"score-spot": 3}
    assert launched({"score-spot": 0.0}) == {"score": 3}


def test_every_image_and_pin_is_of_one_version() -> None:
    ray, torch = constraint("ray"), constraint("torch")
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    images = re.findall(r"rayproject/ray:(\S+)", (ROOT / "cluster.yaml").read_text())
    assert len(images) == 2 and all(image.startswith(f"{ray}-{python}") for image in images)
    for path in (ROOT / "cluster.yaml", ROOT / "Dockerfile"):
        assert set(re.findall(r"torch==([\d.]+)", path.read_text())) == {torch}
    for path in KUBERAY:
        assert set(re.findall(r"rayVersion: (\S+)", path.read_text())) == {ray}
    assert f"ray[default]=={ray}" in (ROOT / "pyproject.toml").read_text()
    from tonearm import __version__

    for path in [*KUBERAY, ROOT / "Dockerfile"]:
        found = re.findall(r"tonearm:(\d[\w.-]*)", path.read_text())
        assert found and {version.removesuffix("-cuda") for version in found} == {__version__}, path


def test_every_node_asks_for_the_token() -> None:
    config = launcher()
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (start,) = [command for command in commands if "ray start" in command]
        assert "RAY_AUTH_MODE=token" in start
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]


def test_commands_are_ones_that_a_shell_and_ray_understand() -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    config = launcher()
    for commands in (config["setup_commands"], config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        for command in commands:
            words = shlex.split(command)
            if "start" in words:
                flags = {word.split("=")[0] for word in words[words.index("start") :] if word.startswith("--")}
                assert flags <= known, flags - known


def test_the_dockerfile_copies_what_there_is_and_what_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = [word for word in line.split()[1:] if not word.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source in kept, f"{source} is ignored by .dockerignore"


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_kuberay_takes_the_resource(path: Path) -> None:
    spec = kuberay.check(yaml.safe_load(path.read_text()))
    found = getattr(spec, "rayClusterSpec", None) or getattr(spec, "rayClusterConfig", spec)
    assert found.headGroupSpec.rayStartParams["num-cpus"] == "0"
    assert found.authOptions is not None and found.authOptions.mode == "token"
    assert found.enableInTreeAutoscaling
    for group in found.workerGroupSpecs:
        assert group.minReplicas <= (group.replicas or 0) <= group.maxReplicas


def test_a_mistake_in_a_resource_is_seen() -> None:
    good = yaml.safe_load(Path(ROOT, "deploy/kuberay/raycluster.yaml").read_text())
    for where, name, value in (
        (("spec",), "workerGroupSpec", []),
        (("spec", "headGroupSpec"), "rayStartParams", {"num-cpus": 0}),
        (("spec", "authOptions"), "mode", "on"),
    ):
        bad = copy.deepcopy(good)
        part = bad
        for step in where:
            part = part[step]
        part[name] = value
        with pytest.raises(ValidationError):
            kuberay.check(bad)
    bad = copy.deepcopy(good)
    bad["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ressources"] = {}
    with pytest.raises(Exception, match="ressources"):
        kuberay.check(bad)


def test_the_service_runs_what_serve_deploy_does() -> None:
    resource = yaml.safe_load(Path(ROOT, "deploy/kuberay/rayservice.yaml").read_text())
    assert yaml.safe_load(resource["spec"]["serveConfigV2"]) == yaml.safe_load((ROOT / "serve/config.yaml").read_text())


def test_jobs_run_a_file_that_is_there() -> None:
    entrypoint = yaml.safe_load(Path(ROOT, "deploy/kuberay/rayjob.yaml").read_text())["spec"]["entrypoint"]
    assert (ROOT / shlex.split(entrypoint)[1]).is_file()
