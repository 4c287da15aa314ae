"""What `import voicebus` gives: every public class of the programming model, and nothing heavy before it is used."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import voicebus
import voicebus.testing

AGENTS = Path(voicebus.__file__).parent / "agents"

# Modules whose classes are for programs. The others are for those who run sessions, and are imported from there.
PUBLIC = (
    "agent", "config", "context", "error_details", "events", "guardrails", "handoffs", "hooks", "items",
    "model_settings", "runner", "session", "usage", "models/events", "models/model", "models/openai",
    "models/playback", "models/sends", "models/sip", "tools/function_tool", "tools/guardrails", "tools/hosted",
    "tools/outputs",    "tools/remote", "tools/results", "tools/worker",
)  # fmt: skip
NOT_FOR_PROGRAMS = {"HookRunner", "Rooms", "SessionPort", "ToolOptions", "TypedAudioFormat"}


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


@pytest.mark.parametrize("module", [voicebus, voicebus.testing], ids=lambda module: module.__name__)
def test_every_exported_class_and_function_says_what_it_is_and_so_does_each_of_its_methods(module: ModuleType) -> None:
    silent = []
    for name in module.__all__:
        exported = getattr(module, name)
        if not inspect.isclass(exported) and not inspect.isfunction(exported):
            continue
        own = (exported.__doc__ or "").strip()
        if not own or own.startswith(f"{name}("):  # what a dataclass writes by itself
            silent.append(name)
        for member, value in vars(exported).items() if inspect.isclass(exported) else ():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if (
                not member.startswith("_")
                and inspect.isfunction(function)
                and not inspect.getdoc(getattr(exported, member))
            ):
                silent.append(f"{name}.{member}")
    assert silent == []


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
