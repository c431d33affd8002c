"""docs/results.md: prose by hand, tables by machine, each between two comments that name it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def put_table(page: Path, title: str, table: str) -> None:
    """Put a table in place of the one of the same title, or below everything else.

    Args:
        page: a Markdown file, which need not exist.
        title: of the table; its heading, and how it is found again.
        table: Markdown.
    """
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    begin, end = f"<!-- begin {title} -->", f"<!-- end {title} -->"
    before, found, rest = text.partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    if not found and before:
        before = before.rstrip("\n") + "\n\n"
    page.write_text(f"{before}{begin}\n### {title}\n\n{table}\n{end}{after}", encoding="utf-8")
