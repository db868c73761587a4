"""Virtual Kubelet: programs that act as a node of a Kubernetes cluster without being a machine.

The names below are the public interface; the typed Kubernetes objects are in ``virtual_kubelet.objects``. They are
imported when first used, so that importing this package, and ``virtual-kubelet --help``, cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from virtual_kubelet.version import VERSION

if TYPE_CHECKING:
    from virtual_kubelet.clock import Clock as Clock
    from virtual_kubelet.contracts.configuration import ConfigurationWatcher as ConfigurationWatcher
    from virtual_kubelet.contracts.configuration import PodConfiguration as PodConfiguration
    from virtual_kubelet.contracts.configuration import VolumeContents as VolumeContents
    from virtual_kubelet.contracts.configuration import VolumeFile as VolumeFile
    from virtual_kubelet.contracts.context import ProviderContext as ProviderContext
    from virtual_kubelet.contracts.logs import ContainerLogOptions as ContainerLogOptions
    from virtual_kubelet.contracts.logs import ContainerLogs as ContainerLogs
    from virtual_kubelet.contracts.logs import LogLine as LogLine
    from virtual_kubelet.contracts.nodes import FeatureDeclarer as FeatureDeclarer
    from virtual_kubelet.contracts.nodes import NaiveNodeProvider as NaiveNodeProvider
    from virtual_kubelet.contracts.nodes import NodeConfigurer as NodeConfigurer
    from virtual_kubelet.contracts.nodes import NodeProvider as NodeProvider
    from virtual_kubelet.contracts.pods import EnvironmentResolver as EnvironmentResolver
    from virtual_kubelet.contracts.pods import PodAddresses as PodAddresses
    from virtual_kubelet.contracts.pods import PodKey as PodKey
    from virtual_kubelet.contracts.pods import PodLifecycleHandler as PodLifecycleHandler
    from virtual_kubelet.contracts.pods import PodNotifier as PodNotifier
    from virtual_kubelet.contracts.pods import PodStatusBatch as PodStatusBatch
    from virtual_kubelet.contracts.pods import PodStatusCallback as PodStatusCallback
    from virtual_kubelet.contracts.pods import RerunSafe as RerunSafe
    from virtual_kubelet.contracts.probes import ProbeStatistics as ProbeStatistics
    from virtual_kubelet.contracts.probes import ProbeStatisticsSource as ProbeStatisticsSource
    from virtual_kubelet.contracts.runtime import ContainerCommands as ContainerCommands
    from virtual_kubelet.contracts.runtime import ContainerConfig as ContainerConfig
    from virtual_kubelet.contracts.runtime import ContainerExit as ContainerExit
    from virtual_kubelet.contracts.runtime import ContainerInstance as ContainerInstance
    from virtual_kubelet.contracts.runtime import ContainerKind as ContainerKind
    from virtual_kubelet.contracts.runtime import ContainerResize as ContainerResize
    from virtual_kubelet.contracts.runtime import ContainerRuntime as ContainerRuntime
    from virtual_kubelet.contracts.runtime import ContainerStartError as ContainerStartError
    from virtual_kubelet.contracts.runtime import ContainerStatistics as ContainerStatistics
    from virtual_kubelet.contracts.runtime import Image as Image
    from virtual_kubelet.contracts.runtime import ImagePullError as ImagePullError
    from virtual_kubelet.contracts.runtime import ImageStore as ImageStore
    from virtual_kubelet.contracts.runtime import Mount as Mount
    from virtual_kubelet.contracts.runtime import PodPorts as PodPorts
    from virtual_kubelet.contracts.runtime import PodSandbox as PodSandbox
    from virtual_kubelet.contracts.runtime import PodSandboxes as PodSandboxes
    from virtual_kubelet.contracts.runtime import RegistryCredentials as RegistryCredentials
    from virtual_kubelet.contracts.stats import StatsSummary as StatsSummary
    from virtual_kubelet.contracts.streams import AttachIO as AttachIO
    from virtual_kubelet.contracts.streams import ContainerAttach as ContainerAttach
    from virtual_kubelet.contracts.streams import ContainerExec as ContainerExec
    from virtual_kubelet.contracts.streams import InputStream as InputStream
    from virtual_kubelet.contracts.streams import OutputStream as OutputStream
    from virtual_kubelet.contracts.streams import PartialStreams as PartialStreams
    from virtual_kubelet.contracts.streams import PortForwarder as PortForwarder
    from virtual_kubelet.contracts.streams import PortStream as PortStream
    from virtual_kubelet.contracts.streams import TerminalSize as TerminalSize
    from virtual_kubelet.errors import ConfigurationError as ConfigurationError
    from virtual_kubelet.errors import InvalidInputError as InvalidInputError
    from virtual_kubelet.errors import MountError as MountError
    from virtual_kubelet.errors import NotFoundError as NotFoundError
    from virtual_kubelet.errors import PermanentError as PermanentError
    from virtual_kubelet.errors import ProviderConfigError as ProviderConfigError
    from virtual_kubelet.errors import TransientError as TransientError
    from virtual_kubelet.errors import UnsupportedError as UnsupportedError
    from virtual_kubelet.errors import VirtualKubeletError as VirtualKubeletError
    from virtual_kubelet.kube.client import ApiClient as ApiClient
    from virtual_kubelet.kube.config import ClientConfig as ClientConfig
    from virtual_kubelet.kube.kubeconfig import find_config as find_config
    from virtual_kubelet.kubelet import Kubelet as Kubelet
    from virtual_kubelet.kubelet import KubeletConfig as KubeletConfig
    from virtual_kubelet.node.node_controller import NodeController as NodeController
    from virtual_kubelet.node.node_template import default_node as default_node
    from virtual_kubelet.node.node_template import system_information as system_information
    from virtual_kubelet.node.pod_controller import PodController as PodController
    from virtual_kubelet.node.pod_controller_config import PodControllerConfig as PodControllerConfig
    from virtual_kubelet.node.readiness import NodeReadiness as NodeReadiness
    from virtual_kubelet.providers.process.machine_usage import machine_usage as machine_usage
    from virtual_kubelet.runtime.dns import NodeDns as NodeDns
    from virtual_kubelet.runtime.dns import pod_dns as pod_dns
    from virtual_kubelet.runtime.engine_options import CallTimeouts as CallTimeouts
    from virtual_kubelet.runtime.engine_options import EngineOptions as EngineOptions
    from virtual_kubelet.runtime.image_names import parse_image_name as parse_image_name
    from virtual_kubelet.runtime.pod_engine import PodEngine as PodEngine
    from virtual_kubelet.runtime.pod_hostname import pod_hostname as pod_hostname
    from virtual_kubelet.runtime.resources import CgroupLimits as CgroupLimits
    from virtual_kubelet.runtime.resources import container_cgroup as container_cgroup
    from virtual_kubelet.runtime.resources import cpu_weight as cpu_weight
    from virtual_kubelet.runtime.resources import oom_score_adjustment as oom_score_adjustment
    from virtual_kubelet.runtime.resources import pod_cgroup as pod_cgroup
    from virtual_kubelet.runtime.security import effective_security_context as effective_security_context
    from virtual_kubelet.runtime.security import hidden_paths as hidden_paths
    from virtual_kubelet.runtime.security import supplemental_groups as supplemental_groups
    from virtual_kubelet.runtime.socket_forward import forward_socket as forward_socket

#: Public name -> the module it lives in.
_PUBLIC = {
    "ApiClient": "kube.client",
    "AttachIO": "contracts.streams",
    "CallTimeouts": "runtime.engine_options",
    "CgroupLimits": "runtime.resources",
    "ClientConfig": "kube.config",
    "Clock": "clock",
    "ConfigurationError": "errors",
    "ConfigurationWatcher": "contracts.configuration",
    "ContainerAttach": "contracts.streams",
    "ContainerCommands": "contracts.runtime",
    "ContainerConfig": "contracts.runtime",
    "ContainerExec": "contracts.streams",
    "ContainerExit": "contracts.runtime",
    "ContainerInstance": "contracts.runtime",
    "ContainerKind": "contracts.runtime",
    "ContainerLogOptions": "contracts.logs",
    "ContainerLogs": "contracts.logs",
    "ContainerResize": "contracts.runtime",
    "ContainerRuntime": "contracts.runtime",
    "ContainerStartError": "contracts.runtime",
    "ContainerStatistics": "contracts.runtime",
    "EngineOptions": "runtime.engine_options",
    "EnvironmentResolver": "contracts.pods",
    "FeatureDeclarer": "contracts.nodes",
    "Image": "contracts.runtime",
    "ImagePullError": "contracts.runtime",
    "ImageStore": "contracts.runtime",
    "InputStream": "contracts.streams",
    "InvalidInputError": "errors",
    "Kubelet": "kubelet",
    "KubeletConfig": "kubelet",
    "LogLine": "contracts.logs",
    "Mount": "contracts.runtime",
    "MountError": "errors",
    "NaiveNodeProvider": "contracts.nodes",
    "NodeConfigurer": "contracts.nodes",
    "NodeController": "node.node_controller",
    "NodeDns": "runtime.dns",
    "NodeProvider": "contracts.nodes",
    "NodeReadiness": "node.readiness",
    "NotFoundError": "errors",
    "OutputStream": "contracts.streams",
    "PermanentError": "errors",
    "PodAddresses": "contracts.pods",
    "PodConfiguration": "contracts.configuration",
    "PodController": "node.pod_controller",
    "PodControllerConfig": "node.pod_controller_config",
    "PodEngine": "runtime.pod_engine",
    "PodKey": "contracts.pods",
    "PodLifecycleHandler": "contracts.pods",
    "PodNotifier": "contracts.pods",
    "PodPorts": "contracts.runtime",
    "PodSandbox": "contracts.runtime",
    "PodSandboxes": "contracts.runtime",
    "PodStatusBatch": "contracts.pods",
    "PodStatusCallback": "contracts.pods",
    "PartialStreams": "contracts.streams",
    "PortForwarder": "contracts.streams",
    "PortStream": "contracts.streams",
    "ProbeStatistics": "contracts.probes",
    "ProbeStatisticsSource": "contracts.probes",
    "ProviderConfigError": "errors",
    "ProviderContext": "contracts.context",
    "RegistryCredentials": "contracts.runtime",
    "RerunSafe": "contracts.pods",
    "StatsSummary": "contracts.stats",
    "TerminalSize": "contracts.streams",
    "TransientError": "errors",
    "UnsupportedError": "errors",
    "VirtualKubeletError": "errors",
    "VolumeContents": "contracts.configuration",
    "VolumeFile": "contracts.configuration",
    "container_cgroup": "runtime.resources",
    "cpu_weight": "runtime.resources",
    "default_node": "node.node_template",
    "effective_security_context": "runtime.security",
    "find_config": "kube.kubeconfig",
    "forward_socket": "runtime.socket_forward",
    "hidden_paths": "runtime.security",
    "machine_usage": "providers.process.machine_usage",
    "oom_score_adjustment": "runtime.resources",
    "parse_image_name": "runtime.image_names",
    "pod_cgroup": "runtime.resources",
    "pod_dns": "runtime.dns",
    "pod_hostname": "runtime.pod_hostname",
    "supplemental_groups": "runtime.security",
    "system_information": "node.node_template",
}

__version__ = VERSION
__all__ = [*_PUBLIC, "__version__"]


if not TYPE_CHECKING:  # to a type checker there is no name but those above

    def __getattr__(name: str) -> Any:
        module = _PUBLIC.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
