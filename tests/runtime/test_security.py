"""Security contexts: what of the pod's a container has, and images that may not run as root."""

from __future__ import annotations

import pytest

from virtual_kubelet.objects.core_v1 import (
    AppArmorProfile,
    Capabilities,
    Container,
    Pod,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
    SELinuxOptions,
    WindowsSecurityContextOptions,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.security import (
    MASKED_PATHS,
    READ_ONLY_PATHS,
    RunAsNonRootError,
    SupplementalGroups,
    effective_security_context,
    hidden_paths,
    supplemental_groups,
    verify_run_as_non_root,
)


def a_pod(context: PodSecurityContext | None = None) -> Pod:
    return Pod(metadata=ObjectMeta(name="p", namespace="n", uid="u"), spec=PodSpec(security_context=context))


def a_container(context: SecurityContext | None = None) -> Container:
    return Container(name="c", security_context=context)


SHARED = PodSecurityContext(
    run_as_user=1,
    run_as_group=2,
    run_as_non_root=True,
    fs_group=3,
    se_linux_options=SELinuxOptions(level="pod"),
    seccomp_profile=SeccompProfile(type="RuntimeDefault"),
    app_armor_profile=AppArmorProfile(type="RuntimeDefault"),
)


def test_without_any_there_is_an_empty_one() -> None:
    assert effective_security_context(a_pod(), a_container()) == SecurityContext()


def test_what_a_container_has_of_its_pods() -> None:
    assert effective_security_context(a_pod(SHARED), a_container()) == SecurityContext(
        run_as_user=1,
        run_as_group=2,
        run_as_non_root=True,
        se_linux_options=SELinuxOptions(level="pod"),
        seccomp_profile=SeccompProfile(type="RuntimeDefault"),
        app_armor_profile=AppArmorProfile(type="RuntimeDefault"),
    )


def test_the_containers_own_wins_field_by_field() -> None:
    own = SecurityContext(
        run_as_user=0,
        run_as_non_root=False,
        privileged=True,
        capabilities=Capabilities(add=["NET_ADMIN"]),
        read_only_root_filesystem=True,
        allow_privilege_escalation=False,
        proc_mount="Unmasked",
        seccomp_profile=SeccompProfile(type="Unconfined"),
    )
    merged = effective_security_context(a_pod(SHARED), a_container(own))
    assert (merged.run_as_user, merged.run_as_group, merged.run_as_non_root) == (0, 2, False)
    assert merged.capabilities == Capabilities(add=["NET_ADMIN"])
    assert merged.privileged
    assert merged.read_only_root_filesystem
    assert merged.allow_privilege_escalation is False
    assert merged.se_linux_options == SELinuxOptions(level="pod")
    assert merged.seccomp_profile == SeccompProfile(type="Unconfined")
    assert own.run_as_group is None


def test_windows_options_are_merged_too() -> None:
    pod = a_pod(
        PodSecurityContext(
            windows_options=WindowsSecurityContextOptions(run_as_user_name="pod", gmsa_credential_spec_name="pod")
        )
    )
    own = SecurityContext(windows_options=WindowsSecurityContextOptions(gmsa_credential_spec="own", host_process=True))
    assert effective_security_context(pod, a_container(own)).windows_options == WindowsSecurityContextOptions(
        run_as_user_name="pod", gmsa_credential_spec="own", host_process=True
    )
    assert effective_security_context(pod, a_container()).windows_options == pod.spec.security_context.windows_options  # type: ignore[union-attr]


WHERE = '(pod: "p_n(u)", container: c)'


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("", f"container has runAsNonRoot and image will run as root {WHERE}"),
        ("0", f"container has runAsNonRoot and image will run as root {WHERE}"),
        ("0:5", f"container has runAsNonRoot and image will run as root {WHERE}"),
        (
            "nginx",
            f"container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root {WHERE}",
        ),
        (
            "root:0",
            f"container has runAsNonRoot and image has non-numeric user (root), cannot verify user is non-root {WHERE}",
        ),
        (
            "²",
            f"container has runAsNonRoot and image has non-numeric user (²), cannot verify user is non-root {WHERE}",
        ),
        (
            "2147483648",
            "container has runAsNonRoot and image has an invalid user id (2147483648). (Must be 1-(2147483647)): must be "
            f"between 0 and 2147483647, inclusive {WHERE}",
        ),
    ],
)
def test_an_image_that_may_be_root_does_not_run_where_root_must_not(user: str, said: str) -> None:
    container = a_container(SecurityContext(run_as_non_root=True))
    with pytest.raises(RunAsNonRootError) as caught:
        verify_run_as_non_root(a_pod(), container, user)
    assert (str(caught.value), caught.value.reason) == (said, "CreateContainerConfigError")


@pytest.mark.parametrize("user", ["1000", "1000:0"])
def test_an_image_with_a_number_does(user: str) -> None:
    verify_run_as_non_root(a_pod(), a_container(SecurityContext(run_as_non_root=True)), user)


def test_run_as_user_decides_whatever_the_image_says() -> None:
    verify_run_as_non_root(a_pod(SHARED), a_container(), "root")
    with pytest.raises(RunAsNonRootError, match=r"^container's runAsUser breaks non-root policy"):
        verify_run_as_non_root(a_pod(SHARED), a_container(SecurityContext(run_as_user=0)), "1000")


def test_where_root_may_run_any_image_does() -> None:
    verify_run_as_non_root(a_pod(), a_container(), "")
    verify_run_as_non_root(a_pod(SHARED), a_container(SecurityContext(run_as_non_root=False)), "")


def test_supplemental_groups_and_their_policy() -> None:
    assert supplemental_groups(a_pod()) == SupplementalGroups((), strict=False)
    context = PodSecurityContext(fs_group=3, supplemental_groups=[4, 3], supplemental_groups_policy="Strict")
    assert supplemental_groups(a_pod(context)) == SupplementalGroups((3, 4), strict=True)


def test_paths_are_hidden_unless_the_container_is_to_see_them() -> None:
    assert hidden_paths(SecurityContext()) == (MASKED_PATHS, READ_ONLY_PATHS)
    assert hidden_paths(SecurityContext(proc_mount="Default")) == (MASKED_PATHS, READ_ONLY_PATHS)
    assert hidden_paths(SecurityContext(proc_mount="Unmasked")) == ((), ())
    assert hidden_paths(SecurityContext(privileged=True)) == ((), ())
