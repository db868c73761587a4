"""From the options of ``run`` to the configuration of the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from virtual_kubelet.cli import _parse, build_parser
from virtual_kubelet.cli.run import kubelet_config, provider_factory
from virtual_kubelet.errors import ConfigurationError, KubeconfigError
from virtual_kubelet.kubelet import KubeletConfig, OnShutdown
from virtual_kubelet.kubelet_config import AuthorizationMode

MODULE = '''
class Mine:
    """A provider of the user's."""

    def __init__(self, context, *, allow_host_processes=False):
        self.allowed = allow_host_processes

class Plain:
    def __init__(self, context):
        pass
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's in the current directory."""
    (tmp_path / "mine_for_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
    )
    return path


def config(kubeconfig: Path, *given: str, **environment: str) -> KubeletConfig:
    options = ["run", "--provider", "mine_for_test:Plain", "--kubeconfig", str(kubeconfig), *given]
    return kubelet_config(_parse(build_parser(), options, environment))


def test_defaults_are_those_of_the_go_command_line(kubeconfig: Path) -> None:
    found = config(kubeconfig)
    assert (found.node_name, found.operating_system, found.cluster_domain) == (
        "virtual-kubelet", "linux", "cluster.local",
    )  # fmt: skip
    assert (found.listen_host, found.listen_port, found.kubelet_server) == ("", 10250, True)
    assert (found.cluster_dns, found.pod_admission) == ((), True)
    assert (found.pod_sync_workers, found.startup_timeout) == (10, None)
    assert (found.lease_duration, found.status_update_interval, found.ping_interval) == (40, 60, 10)
    assert [(t.key, t.value, t.effect) for t in found.taints] == [
        ("virtual-kubelet.io/provider", "Plain", "NoSchedule")
    ]
    assert list(found.on_shutdown) == [OnShutdown.KEEP]
    assert found.authorization_mode is AuthorizationMode.WEBHOOK


def test_options_reach_the_configuration(kubeconfig: Path, tmp_path: Path) -> None:
    found = config(
        kubeconfig,
        *("--nodename", "n", "--os", "windows", "--cluster-domain", "d", "--node-ip", "10.0.0.1,fd00::1"),
        *("--node-labels", "a=b", "--listen", "127.0.0.1:5", "--provider-config", "p.json"),
        *("--tls-cert-file", "c", "--tls-private-key-file", "k", "--client-ca-file", "ca"),
        *("--authentication-token-webhook=false", "--authentication-token-webhook-cache-ttl", "1s"),
        *("--authorization-mode", "AlwaysAllow"),
        *("--authorization-webhook-cache-authorized-ttl", "2s", "--authorization-webhook-cache-unauthorized-ttl", "0"),
        *("--kube-api-qps", "5", "--kube-api-burst", "10", "--pod-sync-workers", "3", "--startup-timeout", "1m"),
        *("--lease-duration", "50s", "--node-status-update-interval", "2m", "--ping-interval", "3s"),
        *("--ping-timeout", "4s", "--on-shutdown", "drain,delete-node", "--drain-timeout", "7s"),
        *("--cluster-dns", "10.96.0.10,fd00::a", "--pod-admission=false"),
        *("--state-dir", "s", "--taint-key", "x/y", "--taint-value", "v", "--taint-effect", "NoExecute"),
    )
    assert (found.node_name, found.operating_system, found.cluster_domain) == ("n", "windows", "d")
    assert (list(found.cluster_dns), found.pod_admission) == (["10.96.0.10", "fd00::a"], False)
    assert list(found.node_ips) == ["10.0.0.1", "fd00::1"]
    assert (found.labels, found.provider_config, found.state_directory) == ({"a": "b"}, Path("p.json"), Path("s"))
    assert (found.listen_host, found.listen_port) == ("127.0.0.1", 5)
    assert (found.tls_certificate, found.tls_private_key, found.client_ca) == ("c", "k", "ca")
    assert (found.token_reviews, found.token_review_cache) == (False, 1)
    assert found.authorization_mode is AuthorizationMode.ALWAYS_ALLOW
    assert (found.access_allowed_cache, found.access_denied_cache) == (2, 0)
    assert (found.kube_api_qps, found.kube_api_burst, found.pod_sync_workers) == (5, 10, 3)
    assert (found.startup_timeout, found.lease_duration, found.status_update_interval) == (60, 50, 120)
    assert (found.ping_interval, found.ping_timeout, found.drain_timeout) == (3, 4, 7)
    assert list(found.on_shutdown) == [OnShutdown.DRAIN, OnShutdown.DELETE_NODE]
    assert [(t.key, t.value, t.effect) for t in found.taints] == [("x/y", "v", "NoExecute")]


def test_streams_may_be_idle_as_long_as_with_a_kubelet_unless_told_otherwise(kubeconfig: Path) -> None:
    assert config(kubeconfig).stream_limits.idle_timeout == 4 * 3600
    limits = config(kubeconfig, "--stream-idle-timeout", "1h30m", "--stream-creation-timeout=5s").stream_limits
    assert (limits.idle_timeout, limits.creation_timeout) == (5400, 5)
    assert config(kubeconfig, "--streaming-connection-idle-timeout", "1m").stream_limits.idle_timeout == 60


def test_the_taint_can_be_left_out_and_its_value_is_the_providers_name(kubeconfig: Path) -> None:
    assert list(config(kubeconfig, "--disable-taint").taints) == []
    assert len(config(kubeconfig, "--disable-taint=false").taints) == 1
    assert config(kubeconfig, VKUBELET_TAINT_VALUE="v").taints[0].value == "v"


def test_a_named_kubeconfig_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="nowhere"):
        config(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--nodename", "Not A Name"], "no name for a node"),
        (["--nodename", "../etc"], "no name for a node"),
        (["--tls-cert-file", "c"], "belong together"),
        (["--on-shutdown", "keep,drain"], "keep everything"),
        (["--allow-host-processes"], "runs no processes of this machine"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(kubeconfig: Path, given: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        config(kubeconfig, *given)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_provider_is_told_whether_it_may_run_host_processes(allowed: bool) -> None:
    factory = provider_factory("mine_for_test:Mine", allow_host_processes=allowed)
    made: Any = factory(None)
    assert made.allowed is allowed
