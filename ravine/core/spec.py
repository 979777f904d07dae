"""Specs: an optimizer written as text, parsed without `eval`, printed by `str`, and the same after a round trip.

    spec     := [label '='] group {';' group}
    group    := [role ':'] link {'+' link} ['@' schedule {'*' schedule}]
    link     := name ['(' [argument {',' argument}] ')']          schedule := the same
    argument := name '=' value | link {'+' link}
    value    := number | true | false | none | 'text'

    sgd
    adam(lr=0.001, beta2=0.99) + decay(weight_decay=0.1) @ warmup(steps=100) * cosine()
    mine = hidden: momentum(lr=0.02); rest: adam(lr=0.003)

This file knows the syntax only: which names exist is the business of `ravine.core.declared`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ravine.core.errors import RavineError

Value = float | int | bool | str | None


class SpecError(RavineError):
    """A spec that does not parse; the message shows the position."""


@dataclass(frozen=True)
class Call:
    """A name with its arguments: `adam(lr=0.001)`. `inner` holds what is wrapped, as in `schedule_free(adam)`."""

    name: str
    arguments: tuple[tuple[str, Value], ...] = ()
    inner: tuple["Call", ...] = ()

    def __str__(self) -> str:
        wrapped = [" + ".join(map(str, self.inner))] if self.inner else []
        parts = wrapped + [f"{key}={show(value)}" for key, value in self.arguments]
        return f"{self.name}({', '.join(parts)})" if parts else self.name

    @property
    def title(self) -> str:
        """The name, with the names of what it wraps."""
        return f"{self.name}({'+'.join(call.title for call in self.inner)})" if self.inner else self.name

    def get(self, key: str) -> Value:
        return dict(self.arguments).get(key)

    def has(self, key: str) -> bool:
        """Whether the argument is written here or in what is wrapped."""
        return self.get(key) is not None or any(call.has(key) for call in self.inner)

    def without(self, key: str) -> "Call":
        return Call(self.name, tuple(pair for pair in self.arguments if pair[0] != key), self.inner)

    def including(self, **arguments: Value) -> "Call":
        """The same call with these arguments set."""
        return Call(self.name, tuple((dict(self.arguments) | arguments).items()), self.inner)


@dataclass(frozen=True)
class Group:
    """What one group of parameters gets: links in turn, and the schedules whose product scales their lr."""

    links: tuple[Call, ...]
    schedules: tuple[Call, ...] = ()
    role: str | None = None

    def __str__(self) -> str:
        role = f"{self.role}: " if self.role else ""
        schedules = f" @ {' * '.join(map(str, self.schedules))}" if self.schedules else ""
        return f"{role}{' + '.join(map(str, self.links))}{schedules}"


@dataclass(frozen=True)
class Spec:
    """A whole optimizer: one group, or one per role; with a label where it competes under a name of its own."""

    groups: tuple[Group, ...]
    label: str | None = None

    def __str__(self) -> str:
        return (f"{self.label}=" if self.label else "") + "; ".join(map(str, self.groups))

    @property
    def name(self) -> str:
        """The label, else the names of the links: what a table calls this optimizer."""
        return self.label or "; ".join("+".join(link.title for link in group.links) for group in self.groups)

    def unlabelled(self) -> "Spec":
        return Spec(self.groups)

    def with_lr(self, lr: float) -> "Spec":
        """The same spec with this learning rate in its one group, which must not have one yet."""
        (group, *more) = self.groups
        if more or any(link.has("lr") for link in group.links):
            own = "several groups" if more else "one of its own"
            raise RavineError(f"lr is given beside '{self}', which has {own}")
        links = (group.links[0].including(lr=lr), *group.links[1:])
        return Spec((Group(links, group.schedules, group.role),), self.label)


def show(value: Value) -> str:
    """One value in the spelling of specs: Python's, with lower-case true, false and none."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)


def parse(text: str) -> Spec:
    """The spec written in `text`; `parse(str(spec)) == spec`.

    >>> parse("adam(lr=0.001) + decay(weight_decay=0.1) @ cosine()").groups[0].links[0].get("lr")
    0.001
    """
    parser = _Parser(text)
    spec = parser.spec()
    parser.end("'+', '@', ';' or the end")
    return spec


def parse_list(text: str) -> list[Spec]:
    """The specs in `text`, separated by commas outside parentheses: `"sgd, adam(lr=0.001)"`."""
    parser = _Parser(text)
    specs = [parser.spec()]
    while parser.take(","):
        specs.append(parser.spec())
    parser.end("'+', '@', ';', ',' or the end")
    return specs


def parse_schedules(text: str) -> tuple[Call, ...]:
    """The factors in `text`: `"warmup(steps=100) * cosine()"`."""
    parser = _Parser(text)
    calls = parser.separated("*")
    parser.end("'*' or the end")
    return calls


def parse_links(text: str) -> tuple[Call, ...]:
    """The links in `text`: `"adam + decay(weight_decay=0.1)"`."""
    parser = _Parser(text)
    calls = parser.separated("+")
    parser.end("'+' or the end")
    return calls


_DEEPEST, _LONGEST = 20, 40
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]) | [+-](?:inf)\b)
    | (?P<name>[A-Za-z_][\w-]*(?<!-))
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<mark>[()=,;:+@*])
    )""",
    re.VERBOSE,
)


def _tokens(source: str) -> Iterator[tuple[str, str, int]]:
    """(kind, text, position) of each token, then ("end", "", length)."""
    at = 0
    while source[at:].strip():
        found = _TOKEN.match(source, at)
        if not found:
            start = at + len(source[at:]) - len(source[at:].lstrip())
            raise _problem(source, start, f"unexpected {source[start]!r}")
        kind = str(found.lastgroup)
        yield kind, found.group(kind), found.start(kind)
        at = found.end()
    yield "end", "", len(source.rstrip())


def _problem(source: str, at: int, message: str) -> SpecError:
    shown = re.sub(r"\s", " ", source)  # one line, so that the caret stands where the problem is
    return SpecError(
        f"{message} at position {at} of the spec\n    {shown}\n    {' ' * at}^\n"
        "A spec looks like: adam(lr=0.001) + decay(weight_decay=0.1) @ warmup(steps=100) * cosine()"
    )


class _Parser:
    """Recursive descent over the tokens; every method takes what it describes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = list(_tokens(source))
        self.at = 0

    def fail(self, wanted: str) -> SpecError:
        _, text, position = self.tokens[self.at]
        found = repr(text) if text else "the end"
        return _problem(self.source, position, f"expected {wanted}, found {found}")

    def take(self, mark: str) -> bool:
        kind, text, _ = self.tokens[self.at]
        if kind == "mark" and text == mark:
            self.at += 1
            return True
        return False

    def need(self, mark: str) -> None:
        if not self.take(mark):
            raise self.fail(f"'{mark}'")

    def end(self, wanted: str) -> None:
        if self.tokens[self.at][0] != "end":
            raise self.fail(wanted)

    def name(self, wanted: str = "a name") -> str:
        kind, text, _ = self.tokens[self.at]
        if kind != "name":
            raise self.fail(wanted)
        self.at += 1
        return text

    def follows(self, mark: str) -> bool:
        """Whether a name and then `mark` come next."""
        (kind, _, _), (after, text, _) = self.tokens[self.at], self.tokens[min(self.at + 1, len(self.tokens) - 1)]
        return kind == "name" and after == "mark" and text == mark

    def spec(self) -> Spec:
        label = None
        if self.follows("="):
            label = self.name()
            self.need("=")
        groups = [self.group()]
        while self.take(";"):
            groups.append(self.group())
        return Spec(tuple(groups), label)

    def group(self) -> Group:
        role = None
        if self.follows(":"):
            role = self.name()
            self.need(":")
        links = self.separated("+")
        schedules = self.separated("*") if self.take("@") else ()
        return Group(links, schedules, role)

    def separated(self, mark: str) -> tuple[Call, ...]:
        calls = [self.call()]
        while self.take(mark):
            calls.append(self.call())
        return tuple(calls)

    def call(self, depth: int = 0) -> Call:
        if depth > _DEEPEST:
            raise self.fail(f"at most {_DEEPEST} calls inside one another")
        name = self.name("the name of an optimizer or schedule")
        arguments: dict[str, Value] = {}
        inner: list[Call] = []
        if self.take("("):
            while not self.take(")"):
                if (arguments or inner) and not self.take(","):
                    raise self.fail("',' or ')'")
                if self.follows("="):
                    self.argument(arguments)
                elif inner:
                    raise self.fail("name=value (several links inside are joined by '+')")
                else:
                    inner.append(self.call(depth + 1))
                    while self.take("+"):
                        inner.append(self.call(depth + 1))
        return Call(name, tuple(arguments.items()), tuple(inner))

    def argument(self, into: dict[str, Value]) -> None:
        _, key, position = self.tokens[self.at]
        if key in into:
            raise _problem(self.source, position, f"'{key}' is given twice")
        self.at += 1
        self.need("=")
        into[key] = self.value()

    def value(self) -> Value:
        kind, text, position = self.tokens[self.at]
        self.at += 1
        if kind == "number" and len(text) > _LONGEST:
            raise _problem(self.source, position, f"a number has at most {_LONGEST} characters, found {len(text)}")
        if kind == "number":
            return float(text) if re.search(r"[.eEn]", text) else int(text)
        if kind == "text":
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        words: dict[str, Value] = {"true": True, "false": False, "none": None, "inf": float("inf")}
        if kind == "name" and text.lower() in words:
            return words[text.lower()]
        self.at -= 1
        hint = f" (text needs quotes: '{text}')" if kind == "name" else ""
        found = repr(text) if text else "the end"
        raise _problem(self.source, position, f"expected a number, true, false, none or 'text'{hint}, found {found}")
