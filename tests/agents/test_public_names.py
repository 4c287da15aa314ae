"""What `import voicebus` gives: every public class of the programming model, and nothing heavy before it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import voicebus

AGENTS = Path(voicebus.__file__).parent / "agents"

# Modules whose classes are for programs. The others are for those who run sessions, and are imported from there.
PUBLIC = (
    "agent", "config", "context", "error_details", "events", "guardrails", "handoffs", "hooks", "items",
    "model_settings", "runner", "session", "usage", "models/events", "models/model", "models/openai",
    "models/playback", "models/sends", "models/sip", "tools/function_tool", "tools/guardrails", "tools/hosted",
    "tools/remote", "tools/results", "tools/worker",
)  # fmt: skip
NOT_FOR_PROGRAMS = {"HookRunner", "SessionPort", "ToolOptions", "TypedAudioFormat"}


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_class_is_exported(module: str) -> None:
    tree = ast.parse((AGENTS / f"{module}.py").read_text())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")}
    assert classes - NOT_FOR_PROGRAMS <= set(voicebus.__all__)


def test_every_exported_name_is_there() -> None:
    assert {name for name in voicebus.__all__ if getattr(voicebus, name, None) is None} == set()
    assert set(voicebus.__all__) <= set(dir(voicebus))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        voicebus.Nothing  # noqa: B018


def test_what_is_exported_on_demand_is_what_type_checkers_see() -> None:
    tree = ast.parse(Path(voicebus.__file__).read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname or alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == voicebus._ON_DEMAND


def test_a_module_of_agents_and_tools_brings_no_sockets_no_engine_and_no_bus() -> None:
    program = (
        "import sys, voicebus; "
        "print(*[name for name in ('picows', 'redis', 'voicebus.engine.session', 'mcp') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.strip() == ""
