"""How Go's types (k8s.io/api 0.36.2) write fields of which the published schema says too little, as ``Type.field``. Data."""

from __future__ import annotations

from typing import Final

__all__ = ["KEPT_EMPTY", "OMITTED", "OMITTED_ZEROS", "WRITTEN_EMPTY", "WRITTEN_NULL", "WRITTEN_ZERO"]

#: No pointers and not ``omitempty``: always written, null when unset.
WRITTEN_NULL: Final = frozenset(
    {
        "ContainerImage.names",
        "ContainerStateRunning.startedAt",
        "ContainerStateTerminated.finishedAt",
        "ContainerStateTerminated.startedAt",
        "Event.eventTime",
        "Event.firstTimestamp",
        "Event.lastTimestamp",
        "EventSeries.lastObservedTime",
        "NamespaceCondition.lastTransitionTime",
        "NodeCondition.lastHeartbeatTime",
        "NodeCondition.lastTransitionTime",
        "PodCondition.lastProbeTime",
        "PodCondition.lastTransitionTime",
        "ProjectedVolumeSource.sources",
        "TokenRequestSpec.boundObjectRef",
        "TokenRequestStatus.expirationTimestamp",
    }
)
#: Quantities that are no pointers: written as 0 when unset.
WRITTEN_ZERO: Final = frozenset({"ResourceFieldSelector.divisor"})
#: Optional in the schema, but written even when empty.
WRITTEN_EMPTY: Final = frozenset({"Event.reportingComponent", "Event.reportingInstance", "NodeRuntimeHandler.name"})
#: Pointers: an empty string, or false, says something.
KEPT_EMPTY: Final = WRITTEN_EMPTY | {
    "AppArmorProfile.localhostProfile",
    "AzureDiskVolumeSource.cachingMode",
    "AzureDiskVolumeSource.fsType",
    "AzureDiskVolumeSource.readOnly",
    "CSIVolumeSource.fsType",
    "CSIVolumeSource.readOnly",
    "ClusterTrustBundleProjection.name",
    "ClusterTrustBundleProjection.signerName",
    "Container.restartPolicy",
    "ContainerStatus.stopSignal",
    "DeleteOptions.propagationPolicy",
    "EphemeralContainer.restartPolicy",
    "GRPCAction.service",
    "HostPathVolumeSource.type",
    "ISCSIVolumeSource.initiatorName",
    "LeaseSpec.holderIdentity",
    "LeaseSpec.preferredHolder",
    "LeaseSpec.strategy",
    "Lifecycle.stopSignal",
    "LoadBalancerIngress.ipMode",
    "PersistentVolumeClaimSpec.storageClassName",
    "PersistentVolumeClaimSpec.volumeAttributesClassName",
    "PersistentVolumeClaimSpec.volumeMode",
    "PodDNSConfigOption.value",
    "PodResourceClaim.resourceClaimName",
    "PodResourceClaim.resourceClaimTemplateName",
    "PodResourceClaimStatus.resourceClaimName",
    "PodSchedulingGroup.podGroupName",
    "PodSecurityContext.fsGroupChangePolicy",
    "PodSecurityContext.seLinuxChangePolicy",
    "PodSecurityContext.supplementalGroupsPolicy",
    "PodSpec.hostnameOverride",
    "PodSpec.preemptionPolicy",
    "PodSpec.runtimeClassName",
    "PortStatus.error",
    "Preconditions.resourceVersion",
    "Preconditions.uid",
    "ResourceHealth.message",
    "SeccompProfile.localhostProfile",
    "SecurityContext.procMount",
    "ServicePort.appProtocol",
    "ServiceSpec.internalTrafficPolicy",
    "ServiceSpec.ipFamilyPolicy",
    "ServiceSpec.loadBalancerClass",
    "ServiceSpec.trafficDistribution",
    "TopologySpreadConstraint.nodeAffinityPolicy",
    "TopologySpreadConstraint.nodeTaintsPolicy",
    "TypedLocalObjectReference.apiGroup",
    "TypedObjectReference.apiGroup",
    "TypedObjectReference.namespace",
    "VolumeMount.mountPropagation",
    "VolumeMount.recursiveReadOnly",
    "VolumeMountStatus.recursiveReadOnly",
    "WindowsSecurityContextOptions.gmsaCredentialSpec",
    "WindowsSecurityContextOptions.gmsaCredentialSpecName",
    "WindowsSecurityContextOptions.runAsUserName",
}
#: ``omitempty``, required by the schema all the same, or a zero that is left out where others of the name are pointers.
OMITTED: Final = frozenset(
    {
        "AWSElasticBlockStoreVolumeSource.partition",
        "ContainerRestartRule.action",
        "ContainerRestartRuleOnExitCodes.operator",
        "GCEPersistentDiskVolumeSource.partition",
        "ImageVolumeStatus.imageRef",
        "PodCertificateProjection.keyType",
        "PodCertificateProjection.signerName",
        "Probe.timeoutSeconds",
    }
)
#: Plain values (not pointers) whose zero is left out.
OMITTED_ZEROS: Final = frozenset(
    {
        "authenticated",
        "chapAuthDiscovery",
        "chapAuthSession",
        "count",
        "denied",
        "failureThreshold",
        "generation",
        "healthCheckNodePort",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostPort",
        "incomplete",
        "initialDelaySeconds",
        "nodePort",
        "observedGeneration",
        "periodSeconds",
        "publishNotReadyAddresses",
        "readOnly",
        "signal",
        "sizeBytes",
        "sslEnabled",
        "stdin",
        "stdinOnce",
        "successThreshold",
        "tty",
        "unschedulable",
    }
)
