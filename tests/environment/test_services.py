"""Service variables, as pkg/kubelet/envvars makes them (upstream's podutils tests: links on, off and nil)."""

from __future__ import annotations

from virtual_kubelet.environment.services import service_variables
from virtual_kubelet.objects.core_v1 import Service, ServicePort, ServiceSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta

HTTPS = ServicePort(name="https", port=443, protocol="TCP")


def service(name: str, *ports: ServicePort, namespace: str = "shop", ip: str | None = "10.0.0.7") -> Service:
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=ServiceSpec(cluster_ip=ip, ports=list(ports or (ServicePort(port=80),))),
    )


KUBERNETES = service("kubernetes", HTTPS, namespace="default", ip="10.0.0.1")


def test_every_variable_of_a_service_with_named_and_unnamed_ports() -> None:
    of_two_ports = service("my-db", ServicePort(port=5432), ServicePort(name="my-metrics", port=9187, protocol="UDP"))
    assert service_variables([of_two_ports], "shop", links=True) == {
        "MY_DB_SERVICE_HOST": "10.0.0.7",
        "MY_DB_SERVICE_PORT": "5432",
        "MY_DB_SERVICE_PORT_MY_METRICS": "9187",
        "MY_DB_PORT": "tcp://10.0.0.7:5432",
        "MY_DB_PORT_5432_TCP": "tcp://10.0.0.7:5432",
        "MY_DB_PORT_5432_TCP_PROTO": "tcp",
        "MY_DB_PORT_5432_TCP_PORT": "5432",
        "MY_DB_PORT_5432_TCP_ADDR": "10.0.0.7",
        "MY_DB_PORT_9187_UDP": "udp://10.0.0.7:9187",
        "MY_DB_PORT_9187_UDP_PROTO": "udp",
        "MY_DB_PORT_9187_UDP_PORT": "9187",
        "MY_DB_PORT_9187_UDP_ADDR": "10.0.0.7",
    }


def test_links_bring_the_namespace_s_services_and_the_api_server() -> None:
    elsewhere = service("elsewhere", namespace="other")
    variables = service_variables([service("db"), elsewhere, KUBERNETES], "shop", links=True)
    assert {name for name in variables if name.endswith("_SERVICE_HOST")} == {
        "DB_SERVICE_HOST",
        "KUBERNETES_SERVICE_HOST",
    }


def test_without_links_the_api_server_alone_is_told() -> None:
    variables = service_variables([service("db"), KUBERNETES], "shop", links=False)
    assert {name for name in variables if name.endswith("_SERVICE_HOST")} == {"KUBERNETES_SERVICE_HOST"}


def test_without_links_a_pod_of_default_is_told_of_the_api_server_alone_too() -> None:
    variables = service_variables([service("db", namespace="default"), KUBERNETES], "default", links=False)
    assert {name for name in variables if name.endswith("_SERVICE_HOST")} == {"KUBERNETES_SERVICE_HOST"}


def test_another_service_of_default_is_not_told_elsewhere() -> None:
    assert service_variables([service("db", namespace="default")], "shop", links=True) == {}


def test_a_service_named_kubernetes_in_the_pod_s_namespace_wins_in_whatever_order_they_come() -> None:
    own = service("kubernetes", ip="10.0.0.99")
    for services in ([own, KUBERNETES], [KUBERNETES, own]):
        assert service_variables(services, "shop", links=True)["KUBERNETES_SERVICE_HOST"] == "10.0.0.99"
        assert service_variables(services, "shop", links=False)["KUBERNETES_SERVICE_HOST"] == "10.0.0.1"


def test_services_without_a_cluster_ip_are_not_told_and_hide_nothing() -> None:
    for ip in ("None", "", None):
        headless = service("kubernetes", ip=ip)
        variables = service_variables([headless, KUBERNETES, service("db", ip=ip)], "shop", links=True)
        assert variables["KUBERNETES_SERVICE_HOST"] == "10.0.0.1"
        assert "DB_SERVICE_HOST" not in variables


def test_an_ipv6_address_is_bracketed_in_urls_only() -> None:
    variables = service_variables([service("db", ip="fd00::7")], "shop", links=True)
    assert variables["DB_SERVICE_HOST"] == variables["DB_PORT_80_TCP_ADDR"] == "fd00::7"
    assert variables["DB_PORT"] == "tcp://[fd00::7]:80"


def test_the_api_server_can_be_told_under_another_address() -> None:
    own = service("db")
    variables = service_variables([KUBERNETES, own], "shop", links=True, api_server=("api.example.com", 6443))
    assert variables["KUBERNETES_SERVICE_HOST"] == "api.example.com"
    assert variables["KUBERNETES_SERVICE_PORT"] == variables["KUBERNETES_SERVICE_PORT_HTTPS"] == "6443"
    assert variables["KUBERNETES_PORT"] == variables["KUBERNETES_PORT_6443_TCP"] == "tcp://api.example.com:6443"
    assert not any("443_TCP" in name and "6443" not in name for name in variables)
    assert variables["DB_SERVICE_HOST"] == "10.0.0.7"
