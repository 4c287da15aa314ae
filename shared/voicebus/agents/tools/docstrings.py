"""What a docstring says of a tool: its description and that of each parameter, in any of three styles."""

import re
from typing import Literal

import griffe

DocstringStyle = Literal["google", "numpy", "sphinx"]

_SECTION = re.compile(
    r"^(Args|Arguments|Params|Parameters|Returns|Yields|Raises|Examples?|Notes?):[ \t]*$", re.MULTILINE
)


def parse_docstring(text: str, style: DocstringStyle | None) -> tuple[str, dict[str, str]]:
    """The description, and the parameters' by name, of a docstring without its indentation; `style` None finds out."""
    if not text:
        return "", {}
    style = style or _style(text)
    docstring = griffe.Docstring(text)
    # Without warnings: parameters without a type are the rule here, as the signature has them.
    if style == "google":
        # its parser wants a blank line before a section
        sections = griffe.parse_google(griffe.Docstring(_SECTION.sub(r"\n\1:", text)), warnings=False)
    elif style == "numpy":
        sections = griffe.parse_numpy(docstring, warnings=False)
    else:
        sections = griffe.parse_sphinx(docstring, warnings=False)
    description = "\n\n".join(
        str(section.value).strip() for section in sections if section.kind is griffe.DocstringSectionKind.text
    )
    parameters = {
        entry.name.lstrip("*"): entry.description.strip()
        for section in sections
        if section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.other_parameters)
        for entry in section.value
    }
    return description.strip(), parameters


def _style(text: str) -> DocstringStyle:
    if re.search(r"^\s*:param\b", text, re.MULTILINE):
        return "sphinx"
    if re.search(r"^\s*(Other )?Parameters\s*\n\s*-{3,}", text, re.MULTILINE):
        return "numpy"
    return "google"
