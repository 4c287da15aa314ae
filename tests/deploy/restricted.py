"""The "restricted" profile of Kubernetes' Pod Security Standards, as its admission controller judges a pod.

https://kubernetes.io/docs/concepts/security/pod-security-standards/: baseline and restricted, for Linux.
"""

from collections.abc import Iterator
from typing import Any, Final

_VOLUMES: Final = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
_SYSCTLS: Final = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
}
_SECCOMP: Final = {"RuntimeDefault", "Localhost"}


def violations(spec: dict[str, Any]) -> Iterator[str]:
    """What of a pod's spec the profile forbids."""
    own = spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes", []):
        if not volume.keys() - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']} is of another kind than {', '.join(sorted(_VOLUMES))}"
    for sysctl in own.get("sysctls", []):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']} is set"
    if own.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess is set"
    for container in (*spec.get("initContainers", []), *spec["containers"], *spec.get("ephemeralContainers", [])):
        for what in _of_container(container, own):
            yield f"container {container['name']}: {what}"


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("privileged"):
        yield "it is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if context.get("runAsUser", pod.get("runAsUser")) == 0:
        yield "runAsUser is 0"
    if context.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in _SECCOMP:
        yield "seccompProfile is neither RuntimeDefault nor Localhost"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not all dropped"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if context.get("procMount", "Default") != "Default":
        yield "procMount is set"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "a hostPort is set"
    for options in (context.get("seLinuxOptions", {}), pod.get("seLinuxOptions", {})):
        if options.get("user") or options.get("role"):
            yield "an SELinux user or role is set"
