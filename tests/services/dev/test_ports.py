"""The ports of `voicebus dev`."""

import socket

import pytest

from voicebus.errors import SettingsError
from voicebus_services.dev.processes import Ports


def test_a_port_that_was_chosen_is_left_to_its_server_and_to_nobody_who_wants_any() -> None:
    ports = Ports()
    try:
        port = ports.take(0, what="gateway", option="--http-port")
        # As another program that begins meanwhile asks for a port of its own.
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)):
            assert server.getsockname()[1] == port
            with pytest.raises(SettingsError, match=rf"--http-port: port {port} for the gateway cannot be opened"):
                ports.take(port, what="gateway", option="--http-port")
    finally:
        ports.close()
