"""A cluster that is kept: killed, started again, without room on its disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.devcluster.clients import MERGE, Api, config_map, pod, ssl_context
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.errors import ConfigurationError

Json = dict[str, Any]
MAPS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"
BIG = "x" * 100_000


@asynccontextmanager
async def kept(directory: Path, **options: Any) -> AsyncIterator[tuple[DevCluster, Api]]:
    async with DevCluster(data_dir=directory, scheduler=False, **options) as cluster:
        async with await Api.of(cluster) as api:
            yield cluster, api


@asynccontextmanager
async def process(directory: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Api]]:
    """The cluster as a process; what it is given is its own end."""
    program = Path(__file__).with_name("kept_cluster.py")
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(program), str(directory), *arguments, stdout=asyncio.subprocess.PIPE, limit=1 << 20
    )
    try:
        assert child.stdout is not None
        line = await asyncio.wait_for(child.stdout.readline(), 60)
        async with await asyncio.to_thread(_client, line.decode()) as api:
            yield child, api
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


class _Kubeconfig:
    """What ``ssl_context`` wants of a cluster."""

    def __init__(self, text: str) -> None:
        import base64

        content = json.loads(text)
        self.text = text
        self.url: str = content["clusters"][0]["cluster"]["server"]
        self.ca_pem = base64.b64decode(content["clusters"][0]["cluster"]["certificate-authority-data"])

    def kubeconfig(self) -> str:
        return self.text


def _client(text: str) -> Any:
    cluster: Any = _Kubeconfig(text)
    context = ssl_context(cluster)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Api]:
        async with Api(cluster.url, context) as api:
            yield api

    return opened()


async def test_everything_is_there_after_a_restart_and_old_credentials_go_on_working(tmp_path: Path) -> None:
    async with kept(tmp_path) as (cluster, api):
        await api.create("/api/v1/namespaces", {"metadata": {"name": "mine"}})
        created = await api.create(MAPS, config_map("c", {"a": "b"}))
        service = await api.create(
            "/api/v1/namespaces/default/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
        )
        await api.create(MAPS, config_map("gone"))
        await api.delete(f"{MAPS}/gone")
        token = (await api.create("/api/v1/namespaces/default/serviceaccounts/default/token", {"spec": {}}))["status"]
        kubeconfig, url = cluster.kubeconfig(), cluster.url
        last = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
    async with kept(tmp_path) as (cluster, _):
        assert cluster.url == url
        async with await Api.of(cluster, kubeconfig) as api:
            assert (await api.get(f"{MAPS}/c")).body == created
            assert (await api.get(f"{MAPS}/gone")).status == 404
            assert (await api.get("/api/v1/namespaces/mine")).body["status"]["phase"] == "Active"
            review = {"spec": {"token": token["token"]}}
            answer = await api.create("/apis/authentication.k8s.io/v1/tokenreviews", review)
            assert answer["status"]["authenticated"]
            # Addresses that are taken stay taken.
            taken = {
                "metadata": {"name": "t"},
                "spec": {"ports": [{"port": 80}], "clusterIP": service["spec"]["clusterIP"]},
            }
            assert (await api.post("/api/v1/namespaces/default/services", taken)).status == 422
            # Revisions go on; what changed before the restart is not known any more.
            changed = await api.patch(f"{MAPS}/c", {"data": {"a": "c"}})
            assert int(changed.body["metadata"]["resourceVersion"]) > int(last)
            async with api.watch(f"{MAPS}?watch=1&resourceVersion={created['metadata']['resourceVersion']}") as watch:
                (event,) = await watch.take(1)
                assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_the_controllers_go_on_where_they_were(tmp_path: Path) -> None:
    async with kept(tmp_path) as (_, api):
        await api.create("/api/v1/namespaces", {"metadata": {"name": "ending"}})
        metadata = {"name": "p", "finalizers": ["example.com/wait"]}
        await api.create("/api/v1/namespaces/ending/pods", pod(metadata=metadata))
        await api.delete("/api/v1/namespaces/ending")
    async with kept(tmp_path) as (_, api):
        assert (await api.get("/api/v1/namespaces/ending")).body["status"]["phase"] == "Terminating"
        await api.patch("/api/v1/namespaces/ending/pods/p", {"metadata": {"finalizers": None}})
        await api.until_gone("/api/v1/namespaces/ending")


async def test_nothing_that_was_answered_or_seen_is_lost_when_it_is_killed(tmp_path: Path) -> None:
    answered: dict[str, int] = {}
    seen: list[int] = []

    async def write(api: Api, worker: int) -> None:
        for number in range(1000):
            name = f"c{worker}-{number}"
            created = await api.create(MAPS, config_map(name))
            answered[name] = int(created["metadata"]["resourceVersion"])

    async def look(api: Api) -> None:
        async with api.watch(f"{MAPS}?watch=1&resourceVersion=0") as watch:
            while True:
                (event,) = await watch.take(1)
                seen.append(int(event["object"]["metadata"]["resourceVersion"]))

    async with process(tmp_path) as (child, api):
        tasks = [asyncio.create_task(write(api, worker)) for worker in range(8)]
        tasks.append(asyncio.create_task(look(api)))
        async with asyncio.timeout(60):
            while len(answered) < 200:
                await asyncio.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        await child.wait()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, (aiohttp.ClientError, EOFError, OSError)), result
    async with process(tmp_path) as (_, api):
        objects = (await api.get(MAPS)).body
        there = {o["metadata"]["name"]: int(o["metadata"]["resourceVersion"]) for o in objects["items"]}
        assert answered.items() <= there.items()
        assert set(seen) <= set(there.values())
        assert int(objects["metadata"]["resourceVersion"]) >= max(seen + list(answered.values()))


async def test_a_second_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with process(tmp_path) as (_, api):
        with pytest.raises(ConfigurationError, match="is in use by another process"):
            await DevCluster(data_dir=tmp_path).start()
        assert (await api.get(MAPS)).status == 200


async def test_a_full_disk_refuses_writes_in_clear_words_and_everything_else_is_served(tmp_path: Path) -> None:
    async with process(tmp_path, "600000") as (_, api):
        async with api.watch(f"{MAPS}?watch=1&fieldSelector=metadata.namespace=default") as watch:
            await watch.take(1)  # the CA's
            stored, refused = [], None
            for number in range(50):
                answer = await api.post(MAPS, config_map(f"c{number}", {"a": BIG}))
                if answer.status != 201:
                    refused = answer
                    break
                stored.append(f"c{number}")
            assert refused is not None
            assert stored
            assert (refused.status, refused.reason) == (500, "InternalError")
            assert refused.message.startswith("Internal error occurred: the cluster's state could not be stored: ")
            # What was refused is not there, nobody saw it, and what was there is as it was.
            listed = (await api.get(MAPS)).names
            assert listed == sorted([*stored, "kube-root-ca.crt"])
            assert (await api.get(f"{MAPS}/c0")).status == 200
            answer = await api.patch(f"{MAPS}/c0", {"data": {"a": BIG + "y"}})
            assert answer.status == 500
            assert (await api.get(f"{MAPS}/c0")).body["data"]["a"] == BIG
            events = await watch.take(len(stored))
            assert [e["object"]["metadata"]["name"] for e in events] == stored
    async with process(tmp_path) as (_, api):
        assert (await api.get(MAPS)).names == sorted([*stored, "kube-root-ca.crt"])


async def test_room_that_is_made_is_used_and_addresses_of_what_was_undone_are_free(tmp_path: Path) -> None:
    services = "/api/v1/namespaces/default/services"
    async with kept(tmp_path, data_quota_bytes=1_000_000) as (_, api):
        for number in range(20):
            if (await api.post(MAPS, config_map(f"c{number}", {"a": BIG}))).status != 201:
                break
        spec = {"ports": [{"port": 80}], "clusterIP": "10.96.7.7"}
        full: Json = {"metadata": {"name": "s", "annotations": {"a": BIG}}, "spec": spec}
        assert (await api.post(services, full)).status == 500
        assert (await api.get(f"{services}/s")).status == 404
        for number in range(3):
            assert (await api.delete(f"{MAPS}/c{number}")).status == 200
        assert (await api.post(services, full)).status == 201


async def test_a_delete_that_cannot_be_stored_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from virtual_kubelet.devcluster.data_directory import DataDirectory, NotStored

    real, broken = DataDirectory.write, False

    def write(self: DataDirectory, *arguments: Any) -> None:
        if broken:
            raise NotStored("disk I/O error")
        real(self, *arguments)

    monkeypatch.setattr(DataDirectory, "write", write)
    async with kept(tmp_path) as (_, api):
        for name in ("a", "b", "c"):
            await api.create(MAPS, config_map(name))
        async with api.watch(
            f"{MAPS}?watch=1&resourceVersion=0&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        ) as watch:
            await watch.take(5)
            broken = True
            answers = await asyncio.gather(
                api.delete(f"{MAPS}/b"),
                api.patch(f"{MAPS}/a", {"data": {"a": "z"}}, MERGE),
                api.post(MAPS, config_map("d")),
            )
            assert [answer.status for answer in answers] == [500, 500, 500]
            assert (await api.get(MAPS)).names == ["a", "b", "c", "kube-root-ca.crt"]
            before = (await api.get(MAPS)).body
            broken = False
            assert (await api.delete(f"{MAPS}/b")).status == 200
            (event,) = await watch.take(1)
            assert (event["type"], event["object"]["metadata"]["name"]) == ("DELETED", "b")
            assert int(event["object"]["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
            assert (await api.get(f"{MAPS}/a")).body["data"] == {"a": "b"}


async def test_a_state_that_is_damaged_is_said_to_be(tmp_path: Path) -> None:
    async with kept(tmp_path) as (_, api):
        await api.create(MAPS, config_map("c"))
    for statement in ("UPDATE objects SET raw = x'7b' WHERE name = 'c'", "DELETE FROM settings WHERE name = 'ca.key'"):
        with contextlib.closing(sqlite3.connect(tmp_path / "cluster.db")) as connection, connection:
            connection.execute(statement)
        with pytest.raises(ConfigurationError, match="is damaged"):
            await DevCluster(data_dir=tmp_path).start()


async def test_a_port_that_somebody_else_has_by_now_is_an_error_that_names_it(tmp_path: Path) -> None:
    async with kept(tmp_path) as (cluster, _):
        port = int(cluster.url.rpartition(":")[2])
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
    async with server:
        with pytest.raises(ConfigurationError, match=str(port)):
            await DevCluster(data_dir=tmp_path).start()
    async with kept(tmp_path) as (cluster, _):
        assert cluster.url.endswith(f":{port}")
