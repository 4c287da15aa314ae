"""Scenario files: YAML with the lines of everything in it, so that what is wrong is told with its place."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from voicebus.errors import ScenarioError, UserError
from voicebus.testing.scenario import Scenario, fields_at

MAX_BYTES: Final = 1024 * 1024
# Aliases of aliases grow without bound out of a small file.
_MAX_VALUES: Final = 20_000
ENDINGS: Final = (".scenario.yaml", ".scenario.yml")

_Path = tuple[str | int, ...]


def load_scenarios(path: str | Path) -> list[Scenario]:
    """The scenarios of a file; several are separated by `---`.

    Raises:
        ScenarioError: the file cannot be read, is no YAML, or a scenario in it is wrong; names the line.
        UserError: PyYAML is missing (`voicebus[testing]`).
    """
    file = Path(path)
    scenarios = []
    for number, (data, lines) in enumerate(_documents(file)):
        if data is None:
            continue
        if not isinstance(data, dict):
            raise ScenarioError(f"{file}:{lines[()]}: a scenario is a mapping with `steps`, not {type(data).__name__}")
        try:
            scenario = Scenario.model_validate(data)
        except ValidationError as error:
            raise ScenarioError(_sentence(file, error, lines)) from error
        if not scenario.name:
            stem = next((file.name.removesuffix(ending) for ending in ENDINGS if file.name.endswith(ending)), file.stem)
            scenario.name = stem if not number else f"{stem} {number + 1}"
        scenario.from_file(file, lines[()], {name: lines[(name,)] for name in data})
        for place, step in enumerate(scenario.steps):
            step.place = (file, lines["steps", place])
        scenarios.append(scenario)
    if not scenarios:
        raise ScenarioError(f"{file}:1: the file holds no scenario")
    return scenarios


def find_scenarios(paths: Sequence[str | Path]) -> list[Path]:
    """The files of a command line: files as they are, and those in folders (`*.scenario.yaml`), sorted.

    Raises:
        ScenarioError: there is no such file, or a folder holds none.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(entry for ending in ENDINGS for entry in path.rglob(f"*{ending}"))
            if not inside:
                raise ScenarioError(f"{path}: the folder holds no scenario; their names end in .scenario.yaml")
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise ScenarioError(f"{path}: there is no such file")
    return list(dict.fromkeys(found))


def _documents(file: Path) -> Iterator[tuple[Any, dict[_Path, int]]]:
    try:
        import yaml
    except ImportError as error:
        raise UserError(f"scenarios need the package {error.name}; install voicebus[testing]") from error
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ScenarioError(f"{file}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise ScenarioError(f"{file}: is larger than {MAX_BYTES // 1024} KiB")
    # Nodes first, for the lines; values are made by the safe loader's own rules.
    try:
        loader = yaml.SafeLoader(data)
        while loader.check_node():
            node = loader.get_node()
            lines: dict[_Path, int] = {}
            _mark(node, (), lines, file)
            yield loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, str(error.problem or error)
        hint = "; indent with spaces" if r"'\t'" in problem else ""
        raise ScenarioError(f"{file}:{mark.line + 1 if mark else 1}: no YAML: {problem}{hint}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScenarioError(f"{file}: no YAML: {' '.join(str(error).split())}") from error


def _mark(node: Any, path: _Path, lines: dict[_Path, int], file: Path) -> None:
    """Note the line of every value, by its path; refuses keys that are given twice, of which YAML keeps the last."""
    lines[path] = node.start_mark.line + 1
    if len(lines) > _MAX_VALUES:
        raise ScenarioError(f"{file}: holds more than {_MAX_VALUES} values, aliases counted each time")
    if node.id == "mapping":
        for key, value in node.value:
            name = str(key.value)
            if (*path, name) in lines:
                raise ScenarioError(f"{file}:{key.start_mark.line + 1}: {name!r} is given twice")
            _mark(value, (*path, name), lines, file)
            # The key's line: a nested value may begin on the next one.
            lines[(*path, name)] = key.start_mark.line + 1
    elif node.id == "sequence":
        for place, value in enumerate(node.value):
            _mark(value, (*path, place), lines, file)


def _sentence(file: Path, report: ValidationError, lines: Mapping[_Path, int]) -> str:
    # A misspelled field is also one that is missing: told is what was written.
    first = min(report.errors(), key=lambda error: error["type"] != "extra_forbidden")
    location = tuple(part for part in first["loc"] if isinstance(part, int) or not part.startswith("function-"))
    known = location
    while known not in lines:
        known = known[:-1]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"there is no such field; {', '.join(fields_at(location[:-1]))} are allowed"
    elif first["type"] == "missing":
        message = "this field is needed"
    elif first["type"] == "string_type" and not isinstance(first["input"], dict | list):
        message = f"{first['input']!r} was read, but text is allowed; put it in quotes"
    elif first["type"] == "model_type":
        message = f"{first['input']!r} was read, but fields are needed: {', '.join(fields_at(location))}"
    elif first["type"] == "literal_error":
        message = message.replace("True", "true")  # as YAML writes it
    return f"{file}:{lines[known]}: {_named(location)}{message[0].lower()}{message[1:]}"


def _named(location: _Path) -> str:
    """`step 3: expect_text.contains: `, steps counted as people do."""
    if location[:1] == ("steps",) and len(location) > 1:
        rest = ".".join(str(part) for part in location[2:])
        return f"step {int(location[1]) + 1}: {rest}: " if rest else f"step {int(location[1]) + 1}: "
    name = ".".join(str(part) for part in location)
    return f"{name}: " if name else ""
