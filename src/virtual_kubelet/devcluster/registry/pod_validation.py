"""What the API server refuses in a pod, in its own words (``pkg/apis/core/validation``, the common part). Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

from virtual_kubelet.devcluster.names import (
    dns_label_problems,
    dns_subdomain_problems,
    qualified_name_problems,
    validate_labels,
)
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
    unsupported_value,
)
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["validate_pod", "validate_pod_status", "validate_pod_update"]

_RESTART: Final = ("Always", "OnFailure", "Never")
_DNS: Final = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PULL: Final = ("Always", "IfNotPresent", "Never")
_MESSAGES: Final = ("FallbackToLogsOnError", "File")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_PORT_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")
_UPDATE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def validate_pod(spec: dict[str, Any]) -> list[FieldError]:
    """A pod's spec, defaults filled in."""
    errors: list[FieldError] = []
    volumes: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        errors += _volume(volume, f"spec.volumes[{index}]", volumes)
    names: set[str] = set()
    if not spec.get("containers"):
        errors.append(required("spec.containers"))
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            errors += _container(container, f"spec.{field}[{index}]", names, volumes, init=field == "initContainers")
    errors += _one_of(spec["restartPolicy"], "spec.restartPolicy", _RESTART)
    errors += _one_of(spec["dnsPolicy"], "spec.dnsPolicy", _DNS)
    errors += validate_labels(spec.get("nodeSelector"), "spec.nodeSelector")
    for field in ("nodeName", "serviceAccountName", "priorityClassName"):
        value = spec.get(field)
        if value:
            errors += [field_invalid(f"spec.{field}", value, problem) for problem in dns_subdomain_problems(value)]
    if "hostname" in spec:
        errors += [field_invalid("spec.hostname", spec["hostname"], p) for p in dns_label_problems(spec["hostname"])]
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2147483647:
        errors.append(
            field_invalid("spec.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
        )
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        errors += _toleration(toleration, f"spec.tolerations[{index}]")
    return errors


def _one_of(value: str, field: str, values: tuple[str, ...]) -> list[FieldError]:
    if not value:
        return [required(field)]
    return [] if value in values else [unsupported_value(field, value, values)]


def _volume(volume: dict[str, Any], where: str, names: set[str]) -> list[FieldError]:
    name = volume.get("name", "")
    errors: list[FieldError] = []
    if not name:
        errors.append(required(f"{where}.name"))
    else:
        errors += [field_invalid(f"{where}.name", name, problem) for problem in dns_label_problems(name)]
    if name in names:
        errors.append(duplicate(f"{where}.name", name))
    names.add(name)
    sources = [key for key in volume if key != "name"]
    for extra in sources[1:]:
        errors.append(field_forbidden(f"{where}.{extra}", "may not specify more than 1 volume type"))
    if "secret" in volume and not volume["secret"].get("secretName"):
        errors.append(required(f"{where}.secret.secretName"))
    if "configMap" in volume and not volume["configMap"].get("name"):
        errors.append(required(f"{where}.configMap.name"))
    return errors


def _container(
    container: dict[str, Any], where: str, names: set[str], volumes: set[str], *, init: bool
) -> list[FieldError]:
    errors: list[FieldError] = []
    name = container.get("name", "")
    if not name:
        errors.append(required(f"{where}.name"))
    else:
        errors += [field_invalid(f"{where}.name", name, problem) for problem in dns_label_problems(name)]
        if name in names:
            errors.append(duplicate(f"{where}.name", name))
        names.add(name)
    image = container.get("image", "")
    if not image:
        errors.append(required(f"{where}.image"))
    elif image != image.strip():
        errors.append(field_invalid(f"{where}.image", image, "must not have leading or trailing whitespace"))
    policy = container.get("restartPolicy")
    if policy is not None and not (init and policy == "Always"):
        if init:
            errors += _one_of(policy, f"{where}.restartPolicy", _RESTART)
        else:
            errors += _one_of(policy, f"{where}.restartPolicy", _RESTART)
    errors += _ports(container.get("ports") or [], f"{where}.ports")
    for index, entry in enumerate(container.get("env") or ()):
        errors += _env(entry, f"{where}.env[{index}]")
    for index, source in enumerate(container.get("envFrom") or ()):
        given = [kind for kind in ("configMapRef", "secretRef") if kind in source]
        if len(given) != 1:
            detail = (
                "must specify one of: `configMapRef` or `secretRef`"
                if not given
                else "may not have more than one field specified at a time"
            )
            errors.append(field_invalid(f"{where}.envFrom[{index}]", "", detail))
        errors += [required(f"{where}.envFrom[{index}].{k}.name") for k in given if not source[k].get("name")]
    mounts: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        errors += _mount(mount, f"{where}.volumeMounts[{index}]", mounts, volumes)
    errors += _one_of(container["imagePullPolicy"], f"{where}.imagePullPolicy", _PULL)
    errors += _one_of(container["terminationMessagePolicy"], f"{where}.terminationMessagePolicy", _MESSAGES)
    errors += _resources(container.get("resources") or {}, f"{where}.resources")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            errors += _probe(container[probe], f"{where}.{probe}")
    return errors


def _ports(ports: list[dict[str, Any]], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        here = f"{where}[{index}]"
        name = port.get("name", "")
        if name:
            if len(name) > 15:
                errors.append(field_invalid(f"{here}.name", name, "must be no more than 15 characters"))
            elif not _PORT_NAME.match(name):
                errors.append(
                    field_invalid(
                        f"{here}.name",
                        name,
                        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                    )
                )
            elif not any(c.isalpha() for c in name):
                errors.append(field_invalid(f"{here}.name", name, "must contain at least one letter (a-z)"))
            elif name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        number = port["containerPort"]
        if number == 0:
            errors.append(required(f"{here}.containerPort"))
        elif not 1 <= number <= 65535:
            errors.append(field_invalid(f"{here}.containerPort", number, "must be between 1 and 65535, inclusive"))
        host = port.get("hostPort", 0)
        if host and not 1 <= host <= 65535:
            errors.append(field_invalid(f"{here}.hostPort", host, "must be between 1 and 65535, inclusive"))
        errors += _one_of(port["protocol"], f"{here}.protocol", _PROTOCOLS)
    return errors


def _env(entry: dict[str, Any], where: str) -> list[FieldError]:
    name = entry.get("name", "")
    errors: list[FieldError] = []
    if not name:
        errors.append(required(f"{where}.name"))
    elif "=" in name or not all(" " <= c <= "~" for c in name):
        errors.append(
            field_invalid(
                f"{where}.name",
                name,
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            )
        )
    source = entry.get("valueFrom")
    if source is not None:
        here = f"{where}.valueFrom"
        if not source:
            errors.append(
                field_invalid(
                    here,
                    "",
                    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                )
            )
        elif len(source) > 1:
            errors.append(field_invalid(here, "", "may not have more than one field specified at a time"))
        if entry.get("value"):
            errors.append(field_invalid(here, "", "may not be specified when `value` is not empty"))
        for kind in ("configMapKeyRef", "secretKeyRef"):
            if kind in source:
                errors += [required(f"{here}.{kind}.{f}") for f in ("name", "key") if not source[kind].get(f)]
        if "fieldRef" in source and not source["fieldRef"].get("fieldPath"):
            errors.append(required(f"{here}.fieldRef.fieldPath"))
        if "resourceFieldRef" in source and not source["resourceFieldRef"].get("resource"):
            errors.append(required(f"{here}.resourceFieldRef.resource"))
    return errors


def _mount(mount: dict[str, Any], where: str, mounts: set[str], volumes: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    name, path = mount.get("name", ""), mount.get("mountPath", "")
    if not name:
        errors.append(required(f"{where}.name"))
    elif name not in volumes:
        errors.append(FieldError(f"{where}.name", "FieldValueNotFound", f'Not found: "{name}"'))
    if not path:
        errors.append(required(f"{where}.mountPath"))
    elif path in mounts:
        errors.append(field_invalid(f"{where}.mountPath", path, "must be unique"))
    mounts.add(path)
    return errors


def _resources(resources: dict[str, Any], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, quantities in (("limits", limits), ("requests", requests)):
        for name, text in quantities.items():
            here = f"{where}.{field}"
            if "/" in name:
                errors += [field_invalid(here, name, problem) for problem in qualified_name_problems(name)]
            elif name not in ("cpu", "memory", "ephemeral-storage") and not name.startswith("hugepages-"):
                errors.append(field_invalid(here, name, "must be a standard resource type or fully qualified"))
                errors.append(field_invalid(here, name, "must be a standard resource for containers"))
            if Quantity(text) < Quantity(0):
                errors.append(field_invalid(f"{here}[{name}]", text, "must be greater than or equal to 0"))
    for name, text in requests.items():
        limit = limits.get(name)
        if limit is not None and Quantity(text) > Quantity(limit):
            errors.append(
                field_invalid(f"{where}.requests", text, f"must be less than or equal to {name} limit of {limit}")
            )
    return errors


def _probe(probe: dict[str, Any], where: str) -> list[FieldError]:
    handlers = [kind for kind in ("exec", "httpGet", "tcpSocket", "grpc") if kind in probe]
    errors: list[FieldError] = []
    if not handlers:
        errors.append(required(where, "must specify a handler type"))
    errors += [field_forbidden(f"{where}.{kind}", "may not specify more than 1 handler type") for kind in handlers[1:]]
    fields = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
    for field in fields:
        if probe.get(field, 0) < 0:
            errors.append(field_invalid(f"{where}.{field}", probe[field], "must be greater than or equal to 0"))
    if not where.endswith("readinessProbe") and probe.get("successThreshold", 1) != 1:
        errors.append(field_invalid(f"{where}.successThreshold", probe["successThreshold"], "must be 1"))
    return errors


def _toleration(toleration: dict[str, Any], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    key, operator = toleration.get("key", ""), toleration.get("operator", "Equal")
    effect = toleration.get("effect", "")
    if key:
        errors += [field_invalid(f"{where}.key", key, problem) for problem in qualified_name_problems(key)]
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(field_invalid(f"{where}.operator", operator, detail))
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(field_invalid(f"{where}.effect", effect, detail))
    if operator == "Exists" and toleration.get("value"):
        detail = "value must be empty when `operator` is 'Exists'"
        errors.append(field_invalid(f"{where}.operator", toleration["value"], detail))
    elif operator not in ("Exists", "Equal"):
        errors.append(unsupported_value(f"{where}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in _EFFECTS:
        errors.append(unsupported_value(f"{where}.effect", effect, _EFFECTS))
    return errors


def validate_pod_update(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """A new spec: images, a shorter deadline, more tolerations; nothing else."""
    errors: list[FieldError] = []
    for field in ("containers", "initContainers"):
        if len(new.get(field) or ()) != len(old.get(field) or ()):
            detail = f"pod updates may not add or remove {'init ' if field == 'initContainers' else ''}containers"
            return [field_forbidden(f"spec.{field}", detail)]
    before, after = old.get("activeDeadlineSeconds"), new.get("activeDeadlineSeconds")
    if after is not None:
        if not 0 <= after <= 2147483647:
            errors.append(
                field_invalid("spec.activeDeadlineSeconds", after, "must be between 0 and 2147483647, inclusive")
            )
        elif before is not None and after > before:
            detail = "must be less than or equal to previous value"
            errors.append(field_invalid("spec.activeDeadlineSeconds", after, detail))
    elif before is not None:
        detail = "must not update from a positive integer to nil value"
        errors.append(field_invalid("spec.activeDeadlineSeconds", after, detail))
    tolerations = new.get("tolerations") or []
    if any(_timeless(old_one) not in [_timeless(t) for t in tolerations] for old_one in old.get("tolerations") or ()):
        errors.append(
            field_forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
        )
    if errors:
        return errors
    munged = {**new}
    for field in ("activeDeadlineSeconds", "tolerations"):
        if field in old:
            munged[field] = old[field]
        else:
            munged.pop(field, None)
    if old.get("terminationGracePeriodSeconds", 0) < 0 and new.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    for field in ("containers", "initContainers"):
        if field in new:
            munged[field] = [
                {**container, "image": previous["image"]}
                for container, previous in zip(new[field], old[field], strict=True)
            ]
    # The real server adds a diff of its internal objects; values of env would be in it.
    return [] if munged == old else [field_forbidden("spec", _UPDATE)]


def _timeless(toleration: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}


def validate_pod_status(new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
    """A new status of a pod; both are whole objects."""
    status, before = new["status"], old["status"]
    errors: list[FieldError] = []
    for field, address_field in (("podIPs", "podIP"), ("hostIPs", "hostIP")):
        for index, entry in enumerate(status.get(field) or ()):
            try:
                ipaddress.ip_address(entry.get("ip", ""))
            except ValueError:
                detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                errors.append(field_invalid(f"status.{field}[{index}]", entry.get("ip", ""), detail))
        if field == "hostIPs" and status.get(field) and status[field][0].get("ip") != status.get(address_field, ""):
            detail = "must be equal to `hostIP`"
            errors.append(field_invalid("status.hostIPs[0].ip", status[field][0].get("ip", ""), detail))
    if before.get("qosClass") and status.get("qosClass") != before["qosClass"]:
        errors.append(field_invalid("status.qosClass", status.get("qosClass", ""), "field is immutable"))
    policy = old["spec"].get("restartPolicy", "Always")
    errors += _terminated_stay(status, before, "containerStatuses", policy)
    errors += _terminated_stay(status, before, "initContainerStatuses", policy, init=_restarted(old["spec"]))
    return errors


def _restarted(spec: dict[str, Any]) -> frozenset[str]:
    """Init containers that start again whatever the pod's policy."""
    return frozenset(c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always")


def _terminated_stay(
    status: dict[str, Any],
    before: dict[str, Any],
    field: str,
    policy: str,
    *,
    init: frozenset[str] | None = None,
) -> list[FieldError]:
    """Containers that will not be restarted do not come back to life."""
    if policy == "Always" and init is None:
        return []
    now = {c["name"]: (i, c) for i, c in enumerate(status.get(field) or ())}
    errors: list[FieldError] = []
    for previous in before.get(field) or ():
        ended = (previous.get("state") or {}).get("terminated")
        if ended is None or previous["name"] not in now or previous["name"] in (init or ()):
            continue
        if ended.get("exitCode", 0) != 0 and policy != "Never":
            continue
        index, current = now[previous["name"]]
        if "terminated" not in (current.get("state") or {}):
            where = f"status.{field}[{index}].state"
            errors.append(field_forbidden(where, "may not be transitioned to non-terminated state"))
    return errors
