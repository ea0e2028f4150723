"""KubeRay's custom resources as strict models: a field that they do not have, or of another type, is refused.

Written after ray-operator/apis/ray/v1/*_types.go, from which KubeRay's CRDs are made. A CRD itself is 1.2 MB, most of
it Kubernetes' own PodTemplateSpec, which ``kubernetes_validate`` checks against that release's schema instead.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import kubernetes_validate
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

KUBERNETES = "1.33"


def _pod_template(template: dict[str, Any]) -> dict[str, Any]:
    assert set(template) <= {"metadata", "spec"}, f"a pod template has metadata and spec, got {set(template)}"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"} | template.get("metadata", {})}
    kubernetes_validate.validate(pod | {"spec": template["spec"]}, KUBERNETES, strict=True)
    return template


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


PodTemplate = Annotated[dict[str, Any], AfterValidator(_pod_template)]
Count = Annotated[int, Field(ge=0, lt=2**31)]


class AuthOptions(Strict):
    mode: Literal["disabled", "token"]


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"] | None = None
    idleTimeoutSeconds: Count | None = None
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] | None = None
    image: str | None = None
    imagePullPolicy: str | None = None
    resources: dict[str, Any] | None = None
    env: list[dict[str, Any]] | None = None
    envFrom: list[dict[str, Any]] | None = None
    volumeMounts: list[dict[str, Any]] | None = None
    securityContext: dict[str, Any] | None = None


class HeadGroupSpec(Strict):
    template: PodTemplate
    rayStartParams: dict[str, str]
    serviceType: str | None = None
    headService: dict[str, Any] | None = None
    enableIngress: bool | None = None
    resources: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class WorkerGroupSpec(Strict):
    groupName: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    template: PodTemplate
    rayStartParams: dict[str, str]
    minReplicas: Count
    maxReplicas: Count
    replicas: Count | None = None
    numOfHosts: Count | None = None
    idleTimeoutSeconds: Count | None = None
    suspend: bool | None = None
    scaleStrategy: dict[str, Any] | None = None
    resources: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class RayClusterSpec(Strict):
    headGroupSpec: HeadGroupSpec
    workerGroupSpecs: list[WorkerGroupSpec]
    rayVersion: str
    authOptions: AuthOptions | None = None
    enableInTreeAutoscaling: bool | None = None
    autoscalerOptions: AutoscalerOptions | None = None
    headServiceAnnotations: dict[str, str] | None = None
    gcsFaultToleranceOptions: dict[str, Any] | None = None
    upgradeStrategy: dict[str, Any] | None = None
    managedBy: str | None = None
    suspend: bool | None = None


class RayJobSpec(Strict):
    entrypoint: str
    rayClusterSpec: RayClusterSpec
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] | None = None
    shutdownAfterJobFinishes: bool | None = None
    ttlSecondsAfterFinished: Count | None = None
    backoffLimit: Count | None = None
    activeDeadlineSeconds: Count | None = None
    runtimeEnvYAML: str | None = None
    jobId: str | None = None
    metadata: dict[str, str] | None = None
    entrypointNumCpus: float | None = None
    entrypointNumGpus: float | None = None
    entrypointResources: str | None = None
    submitterPodTemplate: PodTemplate | None = None
    submitterConfig: dict[str, Any] | None = None
    deletionStrategy: dict[str, Any] | None = None
    clusterSelector: dict[str, str] | None = None
    managedBy: str | None = None
    suspend: bool | None = None


class RayServiceSpec(Strict):
    serveConfigV2: str
    rayClusterConfig: RayClusterSpec
    serveService: dict[str, Any] | None = None
    upgradeStrategy: dict[str, Any] | None = None
    excludeHeadPodFromServeSvc: bool | None = None
    rayClusterDeletionDelaySeconds: Count | None = None


SPECS: dict[str, type[Strict]] = {"RayCluster": RayClusterSpec, "RayJob": RayJobSpec, "RayService": RayServiceSpec}


def check(resource: dict[str, Any]) -> Strict:
    """Return the spec of a custom resource.

    Raises:
        pydantic.ValidationError, kubernetes_validate.ValidationError: what KubeRay would refuse, or silently drop.
    """
    assert resource["apiVersion"] == "ray.io/v1", resource["apiVersion"]
    assert set(resource) == {"apiVersion", "kind", "metadata", "spec"}
    assert {"name", "generateName"} & set(resource["metadata"])
    return SPECS[resource["kind"]].model_validate(resource["spec"])
