"""The proxy that an address is reached through, as the environment names it: HTTPS_PROXY, HTTP_PROXY, NO_PROXY."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from voicebus.errors import SettingsError

_SECURE: Final = ("wss", "https")
_SPOKEN: Final = ("http", "https")


def proxy_of(url: str) -> str | None:
    """The address of the proxy to `url`; None where none is named, and for this machine's own addresses.

    It may hold a password: never for a log.

    Raises:
        SettingsError: the variable's value is no proxy's address.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_here(host) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    name = "https" if parts.scheme in _SECURE else "http"
    given = getproxies().get(name)
    if not given:
        return None
    proxy = given if "://" in given else f"http://{given}"
    read = urlsplit(proxy)
    try:
        usable = read.scheme in _SPOKEN and bool(read.hostname) and read.port != 0
    except ValueError:  # no number
        usable = False
    if not usable:
        raise SettingsError(
            f"{name.upper()}_PROXY: what is given is not the address of a proxy that speaks HTTP, such as"
            " http://proxy.example:3128"
        )
    return proxy


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name
        return False
