"""Imported once by the fork server: loads torch and the coming race's task, so that a trial starts in milliseconds."""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's business, while torch is loaded too

from ravine.racing.worker import warm  # noqa: E402

warm()
