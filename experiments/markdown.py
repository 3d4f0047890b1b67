"""A page of Markdown in sections, and its tables."""

from pathlib import Path

from experiments import train


def table(header: str, lines: list[list[str]]) -> str:
    """Lines of cells under "a | b | c"; nothing where there are no lines."""
    names = header.split(" | ")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *lines)) if lines else ""


class Page:
    """A title, then paragraphs and sections; an empty paragraph is none, and so is a section without any."""

    def __init__(self, title: str, *paragraphs: str):
        self.text = [f"# {title}", *filter(None, paragraphs)]

    def section(self, title: str, *paragraphs: str):
        there = list(filter(None, paragraphs))
        if there:
            self.text += [f"## {title}", *there]

    def write(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        train.replace_file(path, lambda beside: beside.write_text("\n\n".join(self.text) + "\n"))
