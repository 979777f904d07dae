"""Imported once by the fork server: loads torch and the coming race's task, so that a trial starts in milliseconds."""

from ravine.racing.worker import warm

warm()
