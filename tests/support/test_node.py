"""Node for tests."""

from pathlib import Path

import pytest

from support import node


@pytest.mark.timeout(300)  # the first run installs it
async def test_programs_run_in_a_node_that_is_new_enough(tmp_path: Path) -> None:
    program = tmp_path / "program.mjs"
    program.write_text("console.log('first');\nconsole.log(JSON.stringify([process.version, process.argv[2]]));\n")
    version, argument = await node.run(program, "given")
    assert argument == "given"
    assert node.node().version >= node.OLDEST
    assert version == "v" + ".".join(str(part) for part in node.node().version)


@pytest.mark.parametrize(
    ("wanted", "found", "lacking"),
    [
        ("a", {}, ["a"]),
        ("a", {"a": "0.1.0"}, []),
        ("a>=2.1", {"a": "2.0.9"}, ["a"]),
        ("a>=2.1", {"a": "3.0.0"}, []),
        ("a==2.1.0", {"a": "2.1.0"}, []),
        ("a==2.1.0", {"a": "2.1.1"}, ["a"]),
        ("@b/a==2.1.0", {"@b/a": "2.0.0"}, ["@b/a"]),
    ],
)
def test_a_package_is_at_least_or_exactly_of_a_version(wanted: str, found: dict[str, str], lacking: list[str]) -> None:
    assert node._lacking([node._bound(wanted)], found) == lacking


async def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    program = tmp_path / "program.mjs"
    program.write_text("throw new Error('no luck');\n")
    with pytest.raises(AssertionError, match="no luck"):
        await node.run(program)
