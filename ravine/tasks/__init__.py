"""Every built-in task: one line in `TASKS` each. Other packages add theirs as entry points `ravine.tasks`."""

from importlib.metadata import entry_points

from ravine.core.errors import unknown
from ravine.core.task import Task
from ravine.tasks.reference import resolve

TASKS = {
    "digits-mlp": "ravine.tasks.digits:mlp",
    "digits-mlp-full": "ravine.tasks.digits:mlp_full",
    "digits-cnn": "ravine.tasks.digits:cnn",
    "digits-deep-sigmoid": "ravine.tasks.digits:deep_sigmoid",
    "fashion-mlp": "ravine.tasks.fashion:mlp",
    "moby-lm": "ravine.tasks.moby:lm",
    "autoencoder-curves": "ravine.tasks.autoencoder:curves",
    "autoencoder-mnist": "ravine.tasks.autoencoder:mnist",
    "autoencoder-faces": "ravine.tasks.autoencoder:faces",
    "quadratic": "ravine.tasks.quadratic:quadratic",
}


def names() -> dict[str, str]:
    """The tasks that have a name, with where each is made: built-in ones, and those that other packages bring."""
    return TASKS | {found.name: found.value for found in entry_points(group="ravine.tasks")}


def task(reference: str) -> Task:
    """The task of that name, or the one that `path/to/file.py:function` or `package.module:function` makes.

    >>> import ravine
    >>> ravine.task("digits-mlp").metric_name
    'accuracy'
    """
    if ":" in reference:
        return resolve(reference)
    known = names()
    if reference not in known:
        hint = "Or a problem of your own: path/to/file.py:function or package.module:function."
        raise unknown("task", reference, known, hint)
    return resolve(known[reference])


def summary(name: str) -> str:
    """What the task of that name is, in a line: the docstring of its function. Loads no data."""
    from importlib import import_module

    module, _, function = names()[name].partition(":")
    return (getattr(import_module(module), function).__doc__ or "").strip().split("\n")[0]
