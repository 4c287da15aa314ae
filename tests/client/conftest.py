"""A real gateway for clients to talk to: that of the gateway's own tests."""

from services.gateway.conftest import Gateways, gateway, gateways, simulator, tool_worker

__all__ = ["Gateways", "gateway", "gateways", "simulator", "tool_worker"]
