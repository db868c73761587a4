"""The conformance kit in a cluster that somebody else runs: what it finds there, and that it leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.contract.api_servers import ApiServer
from tests.contract.scenarios import eventually
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import LEASES, NAMESPACES, NODES
from virtual_kubelet.testing.conformance import ConformanceConfig, Verdict, report_text, run_conformance, select

#: A second or two each: a status, a log, a stream, and one that old API servers do not know.
CHECKS = ["lifecycle.exit-code", "logs.tail", "exec.output-and-exit-code", "restart.sidecar"]


async def test_a_provider_is_judged_in_a_given_cluster(
    api_server: ApiServer, admin: ApiClient, kubeconfig_file: Callable[[str], Path]
) -> None:
    kubeconfig = kubeconfig_file(api_server.admin_kubeconfig())
    config = ConformanceConfig(
        provider="process", allow_host_processes=True, kubeconfig=kubeconfig, checks=select(CHECKS), timeout=200
    )
    report = await run_conformance(config)
    assert report.holds, report_text(report)
    assert report.where == str(kubeconfig)
    verdicts = {str(result.check): result.verdict for result in report.results}
    sidecar = Verdict.HOLDS if api_server.kind == "dev" else Verdict.NOT_RUN
    assert verdicts == {**dict.fromkeys(CHECKS, Verdict.HOLDS), "restart.sidecar": sidecar}

    async def nothing_left() -> bool:
        """The namespace may take its time."""
        there = [one.metadata.name or "" for one in (await admin.list(NAMESPACES)).items]
        there += [one.metadata.name or "" for one in (await admin.list(NODES)).items]
        there += [one.metadata.name or "" for one in (await admin.list(LEASES, "kube-node-lease")).items]
        return not [name for name in there if name.startswith("conformance-")]

    await eventually(nothing_left)
