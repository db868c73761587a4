"""Volumes: what containers find at their mount paths, and how it changes under them. Seen by what they print."""

from __future__ import annotations

import asyncio

from virtual_kubelet.objects.core_v1 import (
    ConfigMapProjection,
    ConfigMapVolumeSource,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    KeyToPath,
    ObjectFieldSelector,
    Pod,
    ProjectedVolumeSource,
    SecretProjection,
    SecretVolumeSource,
    ServiceAccountTokenProjection,
    VolumeProjection,
)
from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import restarts, running_since
from virtual_kubelet.testing.pod_history import status_line
from virtual_kubelet.testing.pods import PodBuilder

#: Seconds within which a change reaches a pod's files. A kubelet takes up to 90.
_LIVE = 30.0


def _place(stage: Stage) -> str:
    """A mount path that no other pod has, should pods share the machine's files."""
    return f"/conformance/{stage.name()}"


def _prints(stage: Stage, script: str, pod: PodBuilder | None = None) -> PodBuilder:
    """A pod that prints what the script does once a second."""
    return stage.shell(f"while :; do {script}; sleep 1; done", pod)


async def _log_has(stage: Stage, pod: Pod, text: str, expected: str, seconds: float | None = None) -> None:
    await stage.sees(lambda: stage.user.logs(pod, tailLines="20"), lambda log: text.encode() in log, expected, seconds)


@promise("shell")
async def empty_dir(stage: Stage) -> None:
    """An emptyDir is empty at first, and what one container writes another one reads."""
    place = _place(stage)
    writer = stage.shell(f"ls -A {place} | wc -l; echo shared >{place}/file; sleep 1000").volume(
        "data", empty_dir=EmptyDirVolumeSource()
    )
    reader = _prints(stage, f"cat {place}/file 2>&1", writer.mount("data", place).container("reader"))
    pod = await stage.start(reader.mount("data", place))
    await stage.sees(lambda: stage.user.logs(pod, "main"), lambda log: log.strip() == b"0", "nothing in it at first")
    await stage.sees(
        lambda: stage.user.logs(pod, "reader", tailLines="1"),
        lambda log: log == b"shared\n",
        "the other reads 'shared'",
    )


@promise("shell")
async def empty_dir_outlives_restarts(stage: Stage) -> None:
    """What is in an emptyDir is there again when its container restarts."""
    place = _place(stage)
    script = f"if test -f {place}/file; then cat {place}/file; sleep 1000; fi; echo kept >{place}/file; sleep 1; exit 1"
    made = stage.shell(script).volume("data", empty_dir=EmptyDirVolumeSource()).mount("data", place)
    pod = await stage.create(made.restarting("Always"))
    await stage.user.until(pod, lambda one: restarts(one) == 1 and running_since(one), "the container has restarted")
    await _log_has(stage, pod, "kept", "the file of the run before")


@promise("shell")
async def empty_dir_in_memory(stage: Stage) -> None:
    """An emptyDir with medium Memory can be written and read."""
    place = _place(stage)
    made = stage.shell(f"echo in memory >{place}/file; cat {place}/file; sleep 1000")
    made = made.volume("data", empty_dir=EmptyDirVolumeSource(medium="Memory", size_limit="1Mi"))
    pod = await stage.start(made.mount("data", place))
    await _log_has(stage, pod, "in memory", "'in memory'")


@promise("shell")
async def config_map(stage: Stage) -> None:
    """A ConfigMap's keys are files with its values; items choose, name and mode them."""
    place, name = _place(stage), stage.name()
    await stage.user.config_map(name, {"one": "first", "two": "second"})
    items = [KeyToPath(key="two", path="deep/er", mode=0o440)]
    made = stage.shell(
        f"cat {place}/all/one; echo; cat {place}/some/deep/er; echo; ls {place}/some; "
        f"stat -L -c %a {place}/some/deep/er; sleep 1000"
    )
    made = made.volume("all", config_map=ConfigMapVolumeSource(name=name)).mount("all", f"{place}/all")
    made = made.volume("some", config_map=ConfigMapVolumeSource(name=name, items=items)).mount("some", f"{place}/some")
    pod = await stage.start(made)
    await _log_has(stage, pod, "first\nsecond\ndeep\n440\n", "'first', 'second', only 'deep', mode 440")


@promise("shell")
async def secret(stage: Stage) -> None:
    """A Secret's keys are files with its values, decoded, with the volume's mode."""
    place, name = _place(stage), stage.name()
    await stage.user.secret(name, {"key": "a value"})
    made = stage.shell(f"cat {place}/key; echo; stat -L -c %a {place}/key; sleep 1000")
    made = made.volume("s", secret=SecretVolumeSource(secret_name=name, default_mode=0o400)).mount("s", place)
    pod = await stage.start(made)
    await _log_has(stage, pod, "a value\n400\n", "'a value', mode 400")


@promise("shell")
async def config_map_changes(stage: Stage) -> None:
    """A change of a ConfigMap reaches the files of a running pod within seconds, all of it at once."""
    place, name = _place(stage), stage.name()
    await stage.user.config_map(name, {"key": "before", "also": "before"})
    made = _prints(stage, f"echo $(cat {place}/key) $(cat {place}/also)")
    pod = await stage.start(made.volume("v", config_map=ConfigMapVolumeSource(name=name)).mount("v", place))
    await _log_has(stage, pod, "before before", "'before before'")
    await stage.user.change_config_map(name, {"key": "after", "also": "after"})
    await _log_has(stage, pod, "after after", f"'after after' within {_LIVE:g} s", _LIVE)
    expect(restarts(await stage.user.get(pod)) == 0, "without a restart", "it has restarted")


@promise("shell")
async def swapped_as_a_whole(stage: Stage) -> None:
    """Files of a ConfigMap are links through ..data, which is swapped: nobody reads half of a change."""
    place, name = _place(stage), stage.name()
    await stage.user.config_map(name, {"key": "value"})
    made = _prints(stage, f"readlink {place}/key; readlink {place}/..data")
    pod = await stage.start(made.volume("v", config_map=ConfigMapVolumeSource(name=name)).mount("v", place))
    await _log_has(stage, pod, "..data/key\n..", "key is a link to ..data/key, and ..data one to ..TIME")


@promise("shell")
async def downward_api(stage: Stage) -> None:
    """Fields of the pod are files, and a label that changes reaches them within seconds."""
    place = _place(stage)
    fields = {"name": "metadata.name", "labels": "metadata.labels"}
    items = [
        DownwardAPIVolumeFile(path=path, field_ref=ObjectFieldSelector(field_path=field))
        for path, field in fields.items()
    ]
    made = _prints(stage, f"cat {place}/name; echo; cat {place}/labels; echo").labelled({"colour": "red"})
    pod = await stage.start(made.volume("v", downward_api=DownwardAPIVolumeSource(items=items)).mount("v", place))
    await _log_has(stage, pod, f'{pod.metadata.name}\ncolour="red"\n', "name and label")
    await stage.user.patch(pod, {"metadata": {"labels": {"colour": "blue"}}})
    await _log_has(stage, pod, 'colour="blue"', f"the new label within {_LIVE:g} s", _LIVE)


@promise("shell")
async def projected(stage: Stage) -> None:
    """A projected volume puts several sources together, a service-account token among them."""
    place, name = _place(stage), stage.name()
    await stage.user.config_map(name, {"from-map": "map"})
    await stage.user.secret(name, {"from-secret": "secret"})
    sources = [
        VolumeProjection(config_map=ConfigMapProjection(name=name)),
        VolumeProjection(secret=SecretProjection(name=name)),
        VolumeProjection(service_account_token=ServiceAccountTokenProjection(path="token", expiration_seconds=3600)),
    ]
    script = f"cat {place}/from-map {place}/from-secret; echo; cut -c1-3 {place}/token; sleep 1000"
    made = stage.shell(script).volume("v", projected=ProjectedVolumeSource(sources=sources)).mount("v", place)
    # As an API server's admission says it; without, a node may not ask for its token.
    pod = await stage.start(made.spec(service_account_name="default"))
    # Every JSON Web Token begins so.
    await _log_has(stage, pod, "mapsecret\neyJ\n", "the map, the secret, and a token")


@promise("shell")
async def sub_path(stage: Stage) -> None:
    """A subPath mounts a part of a volume, made if it is not there."""
    place = _place(stage)
    made = stage.shell(f"echo below >{place}/part/file; cat {place}/all/inner/file; sleep 1000")
    made = made.volume("data", empty_dir=EmptyDirVolumeSource()).mount("data", f"{place}/all")
    pod = await stage.start(made.mount("data", f"{place}/part", sub_path="inner"))
    await _log_has(stage, pod, "below", "what is written in the part is below in the whole")


@promise("shell")
async def read_only(stage: Stage) -> None:
    """A mount that is read-only cannot be written, while another one of the same volume can."""
    place = _place(stage)
    made = stage.shell(
        f"touch {place}/writable/a && echo written; touch {place}/fixed/b 2>/dev/null || echo refused; sleep 1000"
    )
    made = made.volume("data", empty_dir=EmptyDirVolumeSource()).mount("data", f"{place}/writable")
    pod = await stage.start(made.mount("data", f"{place}/fixed", read_only=True))
    await _log_has(stage, pod, "written\nrefused\n", "'written', 'refused'")


@promise("shell")
async def missing_secret(stage: Stage) -> None:
    """A pod whose Secret is missing waits, says so in an event, and runs once it is there."""
    place, name = _place(stage), stage.name()
    made = stage.shell(f"cat {place}/key; echo; sleep 1000")  # a log has whole lines
    pod = await stage.create(made.volume("v", secret=SecretVolumeSource(secret_name=name)).mount("v", place))
    await stage.user.until(pod, lambda one: one.status.phase == "Pending", "the pod is Pending")
    event = await stage.told(pod, "FailedMount")
    expect(f'secret "{name}" not found' in (event.message or ""), f'secret "{name}" not found', event.message)
    await stage.user.secret(name, {"key": "there now"})
    await stage.user.running(pod)
    await _log_has(stage, pod, "there now", "'there now'")


@promise("shell")
async def optional(stage: Stage) -> None:
    """A ConfigMap that is optional and missing leaves an empty directory, and is filled in when it comes."""
    place, name = _place(stage), stage.name()
    made = _prints(stage, f"echo has $(ls {place})")
    source = ConfigMapVolumeSource(name=name, optional=True)
    pod = await stage.start(made.volume("v", config_map=source).mount("v", place))
    await _log_has(stage, pod, "has\n", "an empty directory")
    await stage.user.config_map(name, {"late": "value"})
    await _log_has(stage, pod, "has late\n", f"the new key within {_LIVE:g} s", _LIVE)


@promise("shell")
async def vanished_source(stage: Stage) -> None:
    """A ConfigMap that is deleted under a running pod takes nothing from it: it runs, with the last files."""
    place, name = _place(stage), stage.name()
    await stage.user.config_map(name, {"key": "still here"})
    made = _prints(stage, f"cat {place}/key; date +%s%N")
    pod = await stage.start(made.volume("v", config_map=ConfigMapVolumeSource(name=name)).mount("v", place))
    await _log_has(stage, pod, "still here", "'still here'")
    await stage.user.delete_config_map(name)
    await asyncio.sleep(5)
    after = await stage.user.get(pod)
    expect(running_since(after) and not restarts(after), "the pod runs as before", status_line(after))
    last = await stage.user.logs(pod, tailLines="2")
    expect(b"still here" in last, "its file is still there", last)
