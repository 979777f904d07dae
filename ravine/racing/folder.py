"""A folder of records: held by one process at a time, tried before anything is run, damaged records set aside."""

import errno
import os
from pathlib import Path

from ravine.core.errors import RavineError


def claimed(folder: Path) -> int | None:
    """Make the folder and its `records/`, try whether they can be written to, and hold them for this process.

    The handle that lets go when it is closed; None on systems without such locks. Raises OSError for a folder that
    cannot be written to, `RavineError` for one that another process holds.
    """
    (folder / "records").mkdir(parents=True, exist_ok=True)
    _try_writing(folder / "records" / ".writable")
    return _lock(folder / "lock")


def _try_writing(probe: Path) -> None:
    """Write as much as a small record, and take it away again."""
    try:
        probe.write_bytes(b"\0" * 65536)
    finally:
        probe.unlink(missing_ok=True)


def _lock(path: Path) -> int | None:
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise RavineError(f"{path.parent} is in use by another command that is still running") from error
    return handle


def cannot_write(folder: Path, error: OSError) -> RavineError:
    """The error for a folder that cannot be written to, with what to do."""
    what = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror or error)
    return RavineError(f"cannot write to {folder}: {what}. Make room, or choose another --out")


def set_aside(path: Path, error: Exception, what: str) -> str:
    """Move a damaged record into `damaged/` beside it; the note that says so. `what` will be run again."""
    aside = path.parent / "damaged"
    aside.mkdir(exist_ok=True)
    os.replace(path, aside / path.name)
    return f"{error}; it was set aside in {aside.name}/ and the {what} is run again"
