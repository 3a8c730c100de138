"""One mistake, as a record of what to replace where.

Blanks do not count in the old text, but it must be found exactly once: code that has moved on needs
its mutant moved along, or the check would check nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


class NotApplicable(Exception):
    """The old text is not in the file exactly once, or the new one is no Python."""


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Args:
        name: What is done wrong.
        file: The module, inside the package.
        edits: Pairs of old and new text.
        tests: The tests that must fail, as pytest names them.
    """

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]

    def apply(self, package: Path) -> None:
        """Make the mistake in a copy of the package.

        Args:
            package: The copy's folder.

        Raises:
            NotApplicable: If the code has moved on.
        """
        path = package / self.file
        text = path.read_text()
        for old, new in self.edits:
            pattern = r"\s+".join(re.escape(word) for word in old.split())
            found = list(re.finditer(pattern, text))
            if len(found) != 1:
                raise NotApplicable(f"{self.file} has {len(found)} times, not once: {old}")
            text = text[: found[0].start()] + new + text[found[0].end() :]
        try:
            compile(text, self.file, "exec")
        except SyntaxError as error:
            raise NotApplicable(f"{self.file} is no Python any more: {error}") from None
        path.write_text(text)
