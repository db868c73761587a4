"""What users of the Go framework asked for of pods (../shared/research/upstream.md §10.5): a test for each row of it.

Each is seen as they would see it, by the API: a node with the process provider on a dev cluster, and containers that are
real. Other tests of the same rows are in docs/upstream-rules.md.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.runtime.container_fakes import LoopClock
from tests.runtime.test_pod_engine_images import IMAGE, ImageRuntime
from virtual_kubelet import PodEngine, ProviderContext
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.kube.resources import PODS, SECRETS, SERVICE_ACCOUNTS, TOKEN_REVIEWS
from virtual_kubelet.objects.authentication_v1 import TokenReview, TokenReviewSpec
from virtual_kubelet.objects.core_v1 import (
    ConfigMapProjection,
    ConfigMapVolumeSource,
    CSIVolumeSource,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    ExecAction,
    HostPathVolumeSource,
    KeyToPath,
    LocalObjectReference,
    ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource,
    Pod,
    Probe,
    ProjectedVolumeSource,
    Secret,
    SecretProjection,
    SecretVolumeSource,
    ServiceAccount,
    VolumeProjection,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.providers.process import ProcessProvider
from virtual_kubelet.testing import PodBuilder, RunningNode, a_pod, running_node
from virtual_kubelet.testing.cluster_user import PodRefusedError
from virtual_kubelet.testing.pod_history import status_line

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.may_block,
]  # the fakes of images read the clock only

#: Until it is asked to end.
STAYS = "trap 'exit 0' TERM; sleep 100000 & wait"


def processes(context: ProviderContext) -> ProcessProvider:
    return ProcessProvider(context, allow_host_processes=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[RunningNode]:
    """One for all of these tests; pods get service accounts and tokens, as with a real API server."""
    async with DevCluster(service_account_admission=True) as cluster:
        async with running_node(processes, cluster=cluster, patience=120) as made:
            yield made
            left = (await made.user.client.list(PODS, made.user.namespace)).items
            for pod in left:
                await made.user.delete(pod, 1)
            for pod in left:
                await made.user.gone(pod)


def shell(node: RunningNode, name: str, script: str) -> PodBuilder:
    """A pod whose container runs this. Kubernetes makes "$" of "$$"."""
    return a_pod(name, node=node.name, restart_policy="Never").run("sh", "-c", script.replace("$", "$$")).grace(1)


async def printed(node: RunningNode, pod: PodBuilder) -> list[str]:
    """The lines of a pod that has ended well."""
    ended = await node.user.ended(await node.user.create(pod))
    text = (await node.user.logs(ended)).decode()
    assert ended.status.phase == "Succeeded", text
    return text.splitlines()


async def test_a_pod_reaches_the_api_with_a_token_of_its_own(node: RunningNode) -> None:
    """VK #1012, #1066, azure-aci #543, systemk PR #109, liqo #1606, interLink PR #368.

    Since 1.24 no Secret has one: it is asked for (TokenRequest), bound to the pod, and in the projected volume that the
    API server adds.
    """
    where = "/var/run/secrets/kubernetes.io/serviceaccount"
    script = f"cat {where}/token; echo; cat {where}/namespace; echo; head -n 1 {where}/ca.crt; {STAYS}"
    pod = await node.user.running(await node.user.create(shell(node, "token", script)))
    lines: list[bytes] = []
    async with asyncio.timeout(120):
        while len(lines) < 3:
            lines = (await node.user.logs(pod)).splitlines()
    token, namespace, certificate = (line.decode() for line in lines)
    assert (namespace, certificate) == (node.user.namespace, "-----BEGIN CERTIFICATE-----")

    async def review() -> TokenReview:
        return await node.user.client.create(TOKEN_REVIEWS, TokenReview(spec=TokenReviewSpec(token=token)))

    user = (await review()).status.user
    assert user is not None
    assert user.username == f"system:serviceaccount:{node.user.namespace}:default"
    assert (user.extra or {})["authentication.kubernetes.io/pod-uid"] == [pod.metadata.uid]
    await node.user.delete(pod)
    await node.user.gone(pod)
    assert not (await review()).status.authenticated


async def test_projected_and_downward_api_volumes_are_files_in_the_container(node: RunningNode) -> None:
    """azure-aci #155, #91, VK #1032, #998: items, modes and ``optional`` too."""
    await node.user.secret("files", {"a": "secret a", "b": "secret b"})
    name = DownwardAPIVolumeFile(path="name", field_ref=ObjectFieldSelector(field_path="metadata.name"))
    root = ConfigMapProjection(name="kube-root-ca.crt", items=[KeyToPath(key="ca.crt", path="authority/ca.crt")])
    sources = [
        VolumeProjection(config_map=root),
        VolumeProjection(downward_api=DownwardAPIProjection(items=[name])),
        VolumeProjection(secret=SecretProjection(name="files", items=[KeyToPath(key="b", path="b", mode=0o400)])),
        VolumeProjection(config_map=ConfigMapProjection(name="there-is-none", optional=True)),
    ]
    script = "cd /users-files; head -n 1 authority/ca.crt; cat name; echo; cat b; echo; stat -L -c %a b; ls -x"
    pod = shell(node, "files", script).volume("files", projected=ProjectedVolumeSource(sources=sources))
    assert await printed(node, pod.mount("files", "/users-files")) == [
        *("-----BEGIN CERTIFICATE-----", "files", "secret b", "400"),
        "authority  b  name",
    ]


async def test_the_address_of_the_pod_and_of_its_host_are_variables(node: RunningNode) -> None:
    """VK #123, #1011, PR #1129, AKS #1139, dapr #2348, HPK PR #37: such a pod never started."""
    pod = shell(node, "address", 'echo "$POD $PODS $HOST $URL"').env_of_field("POD", "status.podIP")
    pod = pod.env_of_field("PODS", "status.podIPs").env_of_field("HOST", "status.hostIP").env(URL="http://$(POD):80/")
    (line,) = await printed(node, pod)
    status = (await node.user.get("address")).status
    assert status.pod_ip
    assert line == f"{status.pod_ip} {status.pod_ip} {status.host_ip} http://{status.pod_ip}:80/"


async def test_changes_of_secrets_and_config_maps_are_delivered_to_a_running_pod(node: RunningNode) -> None:
    """VK #158, PR #586, systemk #3, tensile-kube PR #13."""
    await node.user.config_map("live", {"key": "old"})
    await node.user.secret("live", {"key": "old"})
    script = "cd /users-live; until grep -q new map/key && grep -q new secret/key; do sleep 0.1; done; cat */key"
    pod = shell(node, "live", script).volume("map", config_map=ConfigMapVolumeSource(name="live"))
    pod = pod.volume("secret", secret=SecretVolumeSource(secret_name="live"))
    pod = pod.mount("map", "/users-live/map").mount("secret", "/users-live/secret")
    made = await node.user.running(await node.user.create(pod))
    await node.user.change_config_map("live", {"key": "new map\n"})
    await node.user.client.send_patch(SECRETS, "live", {"stringData": {"key": "new secret\n"}}, node.user.namespace)
    await node.user.ended(made)
    assert await node.user.logs(made) == b"new map\nnew secret\n"


async def test_pods_with_persistent_volume_claims_and_csi_volumes_are_refused_and_never_half_run(
    node: RunningNode,
) -> None:
    """VK #167, azure-aci #88, k3k #141, azurefile-csi #548: said by the field's name, as what is impossible here."""
    claim = PersistentVolumeClaimVolumeSource(claim_name="data")
    claiming = shell(node, "claim", "exit 0").volume("data", persistent_volume_claim=claim).mount("data", "/data")
    csi = shell(node, "csi", "exit 0").volume("data", csi=CSIVolumeSource(driver="file.csi.azure.com"))
    for pod, field in ((claiming, "persistentVolumeClaim"), (csi.mount("data", "/data"), "csi")):
        made = await node.user.create(pod)
        with pytest.raises(PodRefusedError, match=rf"spec\.volumes\[0\]\.{field}: this node has no {field} volumes"):
            await node.user.running(made)
        assert (await node.user.get(made)).status.phase == "Failed"


async def test_startup_readiness_and_liveness_probes_drive_ready_and_restarts(
    node: RunningNode, tmp_path: Path
) -> None:
    """VK #238, azure-aci #12, #268, SaladCloud PR #10."""

    def probe(test: str, failures: int = 1) -> Probe:
        command = ["sh", "-c", f"cd /users-probes && {test}"]
        return Probe(exec=ExecAction(command=command), period_seconds=1, timeout_seconds=60, failure_threshold=failures)

    pod = shell(node, "probes", f"rm -f /users-probes/ill; {STAYS}").restarting("Always")
    pod = pod.volume("v", host_path=HostPathVolumeSource(path=str(tmp_path))).mount("v", "/users-probes")
    pod = pod.fields(
        startup_probe=probe("test -e started", 1000),
        readiness_probe=probe("test -e ready"),
        liveness_probe=probe("! test -e ill"),
    )
    made = await node.user.create(pod)

    async def shows(started: bool, ready: bool, restarts: int) -> None:
        def holds(one: Pod) -> bool:
            mains = one.status.container_statuses or ()
            return any((main.started, main.ready, main.restart_count) == (started, ready, restarts) for main in mains)

        await node.user.saw(made, holds, f"{started=}, {ready=}, {restarts=}")

    await node.user.event(made, "Unhealthy")
    await shows(False, False, 0)
    for file, started, ready, restarts in (
        ("started", True, False, 0),
        ("ready", True, True, 0),
        ("ill", True, True, 1),
    ):
        (tmp_path / file).touch()
        await shows(started, ready, restarts)
    told = [event.message or "" for event in await node.user.events(made) if event.reason in ("Unhealthy", "Killing")]
    for word in ("Startup probe failed", "Liveness probe failed", "failed liveness probe"):
        assert any(word in message for message in told), told


async def test_init_containers_run_in_order_with_their_variables_and_sidecars_beside_them(node: RunningNode) -> None:
    """VK #530, #460: they were ignored, or had no environment."""
    pod = shell(node, "init", "cat /users-init/told").volume("v", empty_dir=EmptyDirVolumeSource())
    pod = pod.mount("v", "/users-init")
    for name, policy, script in (
        ("first", None, "echo first $POD >>/users-init/told"),
        ("sidecar", "Always", f"echo sidecar $POD >>/users-init/told; {STAYS}"),
        ("last", None, "until grep -q sidecar /users-init/told; do sleep 0.1; done; echo last $POD >>/users-init/told"),
    ):
        command = ["sh", "-c", script.replace("$", "$$")]
        pod = pod.init_container(name, command=command, restart_policy=policy).env_of_field("POD", "metadata.name")
        pod = pod.mount("v", "/users-init")
    made = await node.user.ended(await node.user.create(pod))
    assert (await node.user.logs(made, "main")).decode().splitlines() == ["first init", "sidecar init", "last init"]
    statuses = {one.name: one.state for one in made.status.init_container_statuses or ()}
    assert list(statuses) == ["first", "sidecar", "last"]
    assert made.status.phase == "Succeeded", status_line(made)


async def test_image_pull_secrets_are_used_those_of_the_service_account_too(node: RunningNode) -> None:
    """VK #505, #411, #442, macOS-vz #22."""
    auths = {"registry.example.com": {"auth": base64.b64encode(b"robot:open sesame").decode()}}
    kind, key = "kubernetes.io/dockerconfigjson", ".dockerconfigjson"
    data = {key: json.dumps({"auths": auths})}
    client, namespace = node.user.client, node.user.namespace
    await client.create(SECRETS, Secret(metadata=ObjectMeta(name="registry"), type=kind, string_data=data), namespace)
    account = ServiceAccount(
        metadata=ObjectMeta(name="puller"), image_pull_secrets=[LocalObjectReference(name="registry")]
    )
    await client.create(SERVICE_ACCOUNTS, account, namespace)
    runtimes: list[ImageRuntime] = []

    def images(context: ProviderContext) -> PodEngine:
        runtimes.append(ImageRuntime(LoopClock()))
        runtimes[0].password = "open sesame"
        return PodEngine(runtimes[0], context)

    async with running_node(images, node_name="images", cluster=node.cluster) as other:
        named = a_pod("named", node=other.name, image=IMAGE, image_pull_secrets=[LocalObjectReference(name="registry")])
        of_account = a_pod("of-account", node=other.name, image=IMAGE, service_account_name="puller")
        nobody = await other.user.create(a_pod("nobody", node=other.name, image=IMAGE))
        await other.user.event(nobody, "Failed")
        for pod in (named, of_account):
            runtimes[0].here.clear()
            made = await other.user.running(await other.user.create(pod))
            await other.user.delete(made, 0)
            await other.user.gone(made)
        await other.user.delete(nobody, 0)
        await other.user.gone(nobody)
    used = [pulled.password for pulled in runtimes[0].pulls if pulled is not None]
    assert used == ["open sesame"] * 2


async def test_a_crash_loop_shows_as_crash_loop_back_off(node: RunningNode) -> None:
    """systemk #17: with the kubelet's back-off and words."""
    made = await node.user.create(shell(node, "crash", "exit 7").restarting("Always"))

    def waits(one: Pod) -> bool:
        states = [main.state for main in one.status.container_statuses or () if main.state is not None]
        return any(state.waiting is not None and state.waiting.reason == "CrashLoopBackOff" for state in states)

    looping = await node.user.saw(made, waits, "CrashLoopBackOff")
    (main,) = looping.status.container_statuses or []
    assert main.state is not None
    assert main.state.waiting is not None
    pod = f"crash_default({made.metadata.uid})"
    assert main.state.waiting.message == f"back-off 10s restarting failed container=main pod={pod}"
    assert main.last_state is not None
    assert main.last_state.terminated is not None
    assert main.last_state.terminated.exit_code == 7
    assert (await node.user.event(made, "BackOff")).message == f"Back-off restarting failed container main in pod {pod}"
