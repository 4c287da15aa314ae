"""Whose an address is."""

import functools
import ipaddress


@functools.lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """The address itself; of IPv6 its network of 64 bits, since who has one address of it has them all."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # what a proxy says
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    return str(known.ipv4_mapped or ipaddress.IPv6Network((known, 64), strict=False))
