"""Values of Secrets show in no repr, event, failure or traceback."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from tests.environment.pod_specs import config_map, from_map, from_secret, pod_of, secret
from virtual_kubelet.environment import resolution as module
from virtual_kubelet.environment.resolution import EnvironmentFailure, EnvironmentSource, resolve_environment
from virtual_kubelet.objects.core_v1 import Secret
from virtual_kubelet.objects.meta_v1 import ObjectMeta

SECRETS = {
    "text": secret(k="planted-secret"),
    "binary": secret(k=b"planted-secret\xff"),
    "broken": Secret(metadata=ObjectMeta(), data={"k": "planted-secret!"}),
}


@pytest.mark.parametrize("name", list(SECRETS))
@pytest.mark.parametrize("whole", [False, True])
def test_no_secret_shows_in_a_repr_an_event_or_a_failure(name: str, whole: bool) -> None:
    source = EnvironmentSource({"m": config_map(k="planted-secret")}, SECRETS)
    container: dict[str, Any] = {"envFrom": [{"secretRef": {"name": name}}]} if whole else {}
    container["env"] = [from_map("M", "m", "k"), from_secret("V", name, "k"), from_secret("N", name, "none")]
    resolution = resolve_environment(pod_of(container), source)
    assert resolution.failure is not None
    shown = repr((source, resolution, resolution.events, resolution.failure))
    assert "planted" not in shown
    fine = resolve_environment(pod_of({"env": [from_secret("V", "text", "k")]}), source)
    assert fine.pod is not None
    assert fine.pod.spec.containers[0].env is not None
    assert "planted" not in repr(fine)


@pytest.mark.parametrize("name", ["binary", "broken"])
def test_a_secret_that_is_no_text_waits_for_its_change_and_no_traceback_shows_it(name: str) -> None:
    pod = pod_of({"env": [from_secret("V", name, "k")]})
    failure = resolve_environment(pod, EnvironmentSource(secrets=SECRETS)).failure
    assert failure == EnvironmentFailure(
        "main-0", f'key "k" of secret "{name}" is not text: it cannot be a variable', missing=(("Secret", name),)
    )
    with pytest.raises(module._FailedError) as caught:
        module._Resolver(pod, EnvironmentSource(secrets=SECRETS)).container(pod.spec.containers[0])
    texts = ["".join(traceback.format_exception(caught.value))]
    chain: BaseException | None = caught.value
    while chain is not None:
        texts.append(repr(chain))
        chain = chain.__context__
    assert not any("planted" in text for text in texts)
