"""When the agent in charge gets other tools: at a quiet moment, so that no answer is begun with the ones of before.

Who offers which tool is the owner's business; it tells of a change by the snapshot that it replaces, as that may be one
of an agent that is still on its way to take over. Calls of responses that began before run by the tools of before.
"""

from voicebus.engine.bounds import trim
from voicebus.engine.config import AgentSpec
from voicebus.engine.inputs import ToolsChanged
from voicebus.engine.parts import Parts

_REMEMBERED = 64


class Retooling:
    """Waits with changed tools for the next quiet moment."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._changed: dict[int, AgentSpec] = {}

    def changed(self, item: ToolsChanged) -> None:
        self._changed[item.instead_of] = item.agent
        trim(self._changed, _REMEMBERED)

    def settle(self) -> None:
        """After each input, while the conversation is live."""
        if not self._changed:
            return
        p = self._p
        if p.settings.whole.snapshot not in self._changed or not p.is_idle:
            return
        agent = p.settings.whole
        while agent.snapshot in self._changed:
            agent = self._changed.pop(agent.snapshot)
        p.settings.retool(agent)
        p.settings_sent()
        if p.face is not None:
            p.face.agent_changed()
