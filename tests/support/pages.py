"""The pages of the documentation as tests read them: their code blocks, what surrounds those, and their links.

A ```python block is a complete program, together with what comments around it say, which readers do not see:

    <!-- before: code that comes before the block that follows -->
    <!-- after: code that comes after the block just seen -->
    <!-- compiled: why the block that follows cannot run here -->

A block whose first line is `# name.py` is that file for the blocks of its page, which run in one folder. A ```text
block right after a program is what it prints.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

_TOKEN: Final = re.compile(
    r"<!-- (?P<aside>before|after|compiled):\s?(?P<code>.*?)-->|^```(?P<language>\w*)\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NAME: Final = re.compile(r"# (\w+\.py)\n")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")


@dataclass
class Program:
    """One ```python block, as it is run."""

    page: str
    line: int
    text: str
    prints: str | None = None
    compiled_only: bool = False

    @property
    def name(self) -> str:
        """The file that it is."""
        named = _NAME.match(self.text)
        return named[1] if named else f"program_{self.line}.py"


@dataclass(frozen=True)
class Page:
    """A page, by its path from the root of the project."""

    path: str

    @property
    def text(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")

    def programs(self) -> list[Program]:
        found: list[Program] = []
        asides = {"before": "", "compiled": ""}
        text, end = self.text, 0
        for token in _TOKEN.finditer(text):
            gap, end = text[end : token.start()], token.end()
            if token["aside"] == "after":
                found[-1].text += token["code"]
                continue
            if token["aside"]:
                asides[token["aside"]] = token["code"]
                continue
            if token["language"] == "python":
                line = text.count("\n", 0, token.start()) + 1
                whole = asides["before"] + token["block"]
                found.append(Program(self.path, line, whole, compiled_only=bool(asides["compiled"])))
            elif token["language"] == "text" and found and not gap.strip() and found[-1].prints is None:
                found[-1].prints = token["block"]
            asides = dict.fromkeys(asides, "")
        return found

    def blocks(self, language: str) -> list[str]:
        return [token["block"] for token in _TOKEN.finditer(self.text) if token["language"] == language]

    def links(self) -> list[str]:
        """Links to other files of the project, or to headings."""
        return [link for link in _LINK.findall(self.text) if "://" not in link]

    def anchors(self) -> set[str]:
        """What links to headings may name."""
        without_code = re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)
        titles = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def pages() -> list[Page]:
    """The README and everything under docs."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(str(path.relative_to(ROOT))) for path in found]
