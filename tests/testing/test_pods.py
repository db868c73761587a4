"""The pod builder: each method about its own, and nothing shared between two builders."""

from __future__ import annotations

import pytest

from virtual_kubelet.objects.core_v1 import EmptyDirVolumeSource, EnvVar, Probe
from virtual_kubelet.testing import PodBuilder, a_pod


def test_a_pod_of_one_container() -> None:
    pod = a_pod("web", image="nginx", command=["serve"], node="n", labels={"a": "b"}, restart_policy="Never").build()
    assert (pod.metadata.name, pod.metadata.labels, pod.spec.node_name, pod.spec.restart_policy) == (
        "web",
        {"a": "b"},
        "n",
        "Never",
    )
    [main] = pod.spec.containers
    assert (main.name, main.image, main.command) == ("main", "nginx", ["serve"])
    assert pod.spec.tolerations is not None


def test_methods_are_about_the_newest_container() -> None:
    pod = (
        a_pod("p", image="a")
        .env(ONE="1")
        .container("side", command=["cat"])
        .env(TWO="2")
        .fields(stdin=True)
        .init_container("init", image="b")
        .volume("data", empty_dir=EmptyDirVolumeSource())
        .mount("data", "/data", read_only=True)
        .of("main")
        .fields(readiness_probe=Probe())
        .build()
    )
    main, side = pod.spec.containers
    assert main.env == [EnvVar(name="ONE", value="1")]
    assert main.readiness_probe == Probe()
    assert (side.image, side.env, side.stdin) == ("a", [EnvVar(name="TWO", value="2")], True)
    [init] = pod.spec.init_containers or []
    assert init.image == "b"
    assert [(m.name, m.mount_path, m.read_only) for m in init.volume_mounts or []] == [("data", "/data", True)]


def test_a_builder_does_not_change() -> None:
    base = a_pod("p")
    one, two = base.annotated({"a": "1"}), base.named("q").annotated({"a": "2"})
    built = one.build()
    built.spec.containers[0].image = "changed"
    assert base.build().metadata.annotations is None
    assert (one.build().metadata.annotations, two.build().metadata.annotations) == ({"a": "1"}, {"a": "2"})
    assert (one.name, two.name) == ("p", "q")
    assert one.build().spec.containers[0].image != "changed"


def test_a_field_that_there_is_not_is_named() -> None:
    with pytest.raises(TypeError, match="a PodSpec has no field 'restartPolicy'"):
        a_pod("p", restartPolicy="Never")
    with pytest.raises(TypeError, match="a Container has no field 'probe'"):
        a_pod("p").fields(probe=1)
    with pytest.raises(KeyError):
        a_pod("p").of("nobody")


def test_it_can_begin_with_any_pod() -> None:
    assert PodBuilder(a_pod("p").build()).grace(3).build().spec.termination_grace_period_seconds == 3
