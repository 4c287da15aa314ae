"""The ops port: what it answers, and that nothing turns while nobody asks."""

import errno
import socket
import threading
import urllib.error
import urllib.request

import pytest

from voicebus.telemetry.health import Health, OpsServer


def ops_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ops"]


def status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def answer(address: str, port: int) -> bytes:
    """The status of its liveness."""
    with socket.create_connection((address, port), timeout=10) as asking:
        asking.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        return asking.makefile("rb").readline().split()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # the latter as in a pod
def test_the_ops_port_answers_again_and_again_and_is_closed_with_its_thread(host: str) -> None:
    health = Health("redis")
    with OpsServer(health, host=host, port=0) as ops:
        assert [status(ops.port, path) for path in ("/livez", "/readyz", "/nowhere")] == [200, 503, 404]
        health.set("redis", True)
        assert status(ops.port, "/readyz") == 200
        assert ops_threads()
    assert not ops_threads()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ops.port), timeout=10)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ops_port_of_every_address_is_asked_by_ipv4_and_ipv6() -> None:
    with OpsServer(Health(), host="::", port=0) as ops:
        assert [answer(address, ops.port) for address in ("127.0.0.1", "::1")] == [b"200", b"200"]
    assert not ops_threads()


def test_an_ops_port_of_every_address_is_one_of_ipv4_on_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("voicebus.telemetry.health._BothFamilies.server_bind", refuse)
    with OpsServer(Health(), host="::", port=0) as ops:
        assert answer("127.0.0.1", ops.port) == b"200"


def test_an_ops_port_that_nobody_asked_is_closed_with_its_thread() -> None:
    with OpsServer(Health(), host="127.0.0.1", port=0):
        pass
    assert not ops_threads()


def test_an_ops_port_waits_without_looking_round(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def look(self: object) -> None:
        nonlocal looked
        looked += 1

    monkeypatch.setattr("voicebus.telemetry.health._Server.service_actions", look)
    with OpsServer(Health(), host="127.0.0.1", port=0) as ops:
        assert [status(ops.port, "/livez") for _ in range(3)] == [200, 200, 200]
    assert looked == 0  # `serve_forever` does so after each look at the port, many times a second
