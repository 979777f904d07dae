"""How a check says what is wrong."""

from ravine.core.declared import Declared


def hold(true: bool, owner: Declared | str, wrong: str) -> None:
    """Raise AssertionError, with what is checked and what it does wrong, unless it is true."""
    if not true:
        raise AssertionError(f"{owner if isinstance(owner, str) else repr(str(owner))} {wrong}")
