"""What mkdocs is told beyond mkdocs.yml: the claims' pages, and the repository's files that the documents link to."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_OUTSIDE = re.compile(r"\]\(\.\./((?:examples|benchmarks)/[^)#\s]*)\)")


def on_config(config: Any) -> Any:
    """Put every page of docs/claims into the navigation, in the order of the table of all."""
    folder = Path(config.docs_dir) / "claims"
    table = (folder / "index.md").read_text(encoding="utf-8")
    pages = list(dict.fromkeys(re.findall(r"\]\(([\w-]+\.md)\)", table)))
    for entry in config.nav:
        if "Claims" in entry:
            entry["Claims"] = ["claims/index.md", *(f"claims/{page}" for page in pages)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Let the site hold the files outside docs/ that its pages link to."""
    for page in list(files.documentation_pages()):
        for name in _OUTSIDE.findall(page.content_string):
            path = ROOT / name
            for file in [path] if path.is_file() else sorted(path.rglob("*.*")):
                inside = str(file.relative_to(ROOT))
                if file.is_file() and files.get_file_from_path(_as_text(inside)) is None:
                    files.append(File.generated(config, _as_text(inside), content=file.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links that leave docs/ to the copies in the site."""
    return _OUTSIDE.sub(lambda found: f"]({_inside(found[1])})", markdown)


def _inside(name: str) -> str:
    """Where a file, or of a folder its README or first module, lies in the site."""
    path = ROOT / name
    if path.is_dir():
        path = next((file for file in sorted(path.rglob("*.py"))), path)
    return _as_text(str(path.relative_to(ROOT)))


def _as_text(name: str) -> str:
    """Browsers show a file that ends in .txt and offer to save one that ends in .py."""
    return name if name.endswith(".txt") else f"{name}.txt"
