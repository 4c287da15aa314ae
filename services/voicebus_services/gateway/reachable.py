"""Where other processes reach this one, from the address that its port is bound to."""

import ipaddress
import socket
from typing import Final

_IPV4: Final = "0.0.0.0"  # noqa: S104 - compared, not bound
"""All of this machine's addresses, but those of IPv6."""


def reachable(host: str) -> str:
    """`host` as other gateways may dial it, ready for a URL.

    An address that stands for all of this machine's is none: then it is the one that this machine's own name stands
    for, which in a pod or a container is its address there, where its name means nothing to others. A name that only
    leads back to this machine is left as it is.
    """
    if host not in (_IPV4, "::", ""):
        return f"[{host}]" if ":" in host else host
    name = socket.gethostname()
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return name
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    usable = [
        address
        for address in addresses
        if not address.is_loopback and not address.is_link_local and (address.version == 4 or host != _IPV4)
    ]
    if not usable:
        return name
    return f"[{usable[0]}]" if usable[0].version == 6 else str(usable[0])
