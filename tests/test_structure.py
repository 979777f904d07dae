"""The house rules, read off the code: which way imports run, what is exported, how long things are.

A rule that is broken fails with file, line and what to do. The last tests show that each rule can fail.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import ravine

ROOT = Path(__file__).parents[1]

# A file may import from the tiers above its own line and never from its own line or below it.
TIERS = (
    ("core",),
    ("rules", "schedules", "init", "data", "report", "nn"),
    ("engine",),
    ("optimizer", "curvature"),
    ("solvers",),
    ("solving",),
    ("optim", "assembly", "averaging", "probes", "resume", "stopping"),
    ("tasks", "loop"),
    ("weights",),
    ("racing", "checks", "surfaces", "tune", "anatomy", "outset"),
    ("strategies",),
    ("claims",),
    ("proving",),
    ("ravine",),  # the lazy front door, ravine/__init__.py
    ("cli",),
    ("__main__",),
)
REPORT_MAY = {"core.record", "core.errors"}  # it starts without torch

# Files of a room import only such siblings as import none themselves, except these, which put a room together. The
# files of core are one thing and free among themselves.
COMPOSERS = {
    "rules": {"named"},
    "engine": {"bucket", "compiled", "checkpoint", "evaluation", "single", "stepping", "sums"},
    "init": {
        "gains", "flow", "random_walk", "trace", "chain", "parts", "settings", "plan", "apply", "biases", "search",
        "inspect", "balance", "judging", "redraw", "edges",
    },
    "racing": {"race", "plan", "verdict", "crew", "preload", "store"},
    "proving": {"run"},
    "surfaces": {"drawing", "film", "page", "picture"},
    "tune": {"learning_rate", "search", "book"},
    "curvature": {
        "mapped", "hessian", "gauss_newton", "function", "eigen", "trace", "diagonal", "spectrum", "condition",
        "negative", "solve", "drawing", "outputs", "fisher", "layers", "passes", "kronecker", "kfac", "ekfac",
        "of_task", "survey", "layer_drawing",
    },
    "averaging": {"kinds"},
    "nn": {"chain", "tracing", "skips", "heads"},
    "strategies": {"greedy", "hints", "transferring", "smoothing", "drawing", "batch_norm"},
    "solvers": {
        "solver", "named", "minimizing", "gauss_newton", "newton", "saddle_free", "outputs", "layerwise", "kfac",
        "ekfac", "hessian_free", "levenberg_marquardt", "networks",
    },
    "claims": {"transferred_features", "transfer_between_equal_halves", "momentum_on_a_deep_autoencoder"},
    "report": {"document", "terminal", "crossing", "curves", "tuning"},
}

LONGEST_FILE, LONGEST_FUNCTION = 300, 60
PRIVATE_PLACES = re.compile(r"(?<![\w.])/(?:work|root|home)/")
REGISTRIES = re.compile("|".join(re.escape(f"{name}.{end}") for name, end in (
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"), ("debian", "org"),
    ("download.pytorch", "org"), ("huggingface", "co"),
)))  # fmt: skip


class Source(NamedTuple):
    """A file of the package: its dotted name below `ravine` ("" is the front door), and its text."""

    path: str
    text: str

    @property
    def module(self) -> str:
        parts = list(Path(self.path).with_suffix("").parts[1:])
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        return self.module.split(".")[0] or "ravine"

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def package() -> list[Source]:
    files = sorted((ROOT / "ravine").rglob("*.py"))
    return [Source(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")) for file in files]


def imports(source: Source, modules: set[str]) -> Iterator[tuple[int, str]]:
    """(line, module below `ravine`) of every import of the package, lazy ones and those for types too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("."):
                yield node.lineno, name
            elif name.split(".")[0] == "ravine":
                below = name.split(".")[1:]
                while below and ".".join(below) not in modules:  # `from ravine.core.rule import Rule`
                    below.pop()
                yield node.lineno, ".".join(below)


# ---------------------------------------------------------------- the rules, as functions from files to complaints


def wrong_directions(files: list[Source]) -> Iterator[str]:
    tier = {room: i for i, rooms in enumerate(TIERS) for room in rooms}
    modules = {source.module for source in files}
    for source in files:
        if source.room not in tier:
            yield f"{source.path}: the room '{source.room}' stands in no line of TIERS in tests/test_structure.py"
            continue
        for line, module in imports(source, modules):
            room = module.split(".")[0] or "ravine"
            if module.startswith("."):
                yield f"{source.path}:{line}: imports {module} relatively: write the whole name"
            elif room != source.room and tier[room] >= tier[source.room]:
                yield f"{source.path}:{line}: imports ravine.{module}, but '{room}' stands above '{source.room}'"
            elif source.room == "report" and room == "core" and module not in REPORT_MAY:
                yield f"{source.path}:{line}: imports ravine.{module}; it may import {', '.join(sorted(REPORT_MAY))}"


def wrong_siblings(files: list[Source]) -> Iterator[str]:
    modules = {source.module for source in files}
    inside: dict[str, dict[str, int]] = {}
    for source in files:
        found = {module: line for line, module in imports(source, modules)}
        inside[source.module] = {m: i for m, i in found.items() if "." in m and m.split(".")[0] == source.room}
    for source in files:
        room, _, name = source.module.partition(".")
        if not name or room == "core" or name in COMPOSERS.get(room, ()):  # __init__ gathers its room
            continue
        for module, line in inside[source.module].items():
            if inside[module]:
                yield (
                    f"{source.path}:{line}: imports its sibling {module}, which imports siblings itself: take what "
                    f"both need out into a file of its own, or name '{name}' under '{room}' in COMPOSERS"
                )


def circles(files: list[Source]) -> Iterator[str]:
    modules = {source.module for source in files}
    uses = {source.module: {m for _, m in imports(source, modules)} & modules - {source.module} for source in files}
    done: set[str] = set()
    while ready := {module for module in uses if module not in done and uses[module] <= done}:
        done |= ready
    if left := sorted(modules - done):
        yield f"these files import one another in a circle, or import such: {', '.join(left)}"


def missing_exports(files: list[Source]) -> Iterator[str]:
    """What its room does not know: rules, probes and chains without export; tasks, surfaces, claims without name."""
    texts = {source.module: source for source in files}
    for room, bases, makers in (("rules", {"Rule"}, {"Composition"}), ("probes", {"Probe"}, set())):
        for source in files:
            if source.room == room and source.module != room:
                for name in _made(source.tree, bases, makers):
                    line = f"from ravine.{source.module} import {name} as {name}"
                    if line not in texts[room].text.splitlines():
                        yield f"{texts[room].path}: add the line\n    {line}"
    for source in files:
        if source.room == "tasks" and source.module != "tasks":
            for function in _tasks(source.tree):
                place = f'"ravine.{source.module}:{function}"'
                if place not in texts["tasks"].text:
                    yield f'{texts["tasks"].path}: add the line to TASKS\n    "{function}": {place},'
        if source.room == "surfaces" and source.module != "surfaces":
            for function in _surfaces(source.tree):
                line = f'"{function.replace("_", "-")}": "ravine.{source.module}:{function}",'
                if line not in texts["surfaces"].text:
                    yield f"{texts['surfaces'].path}: add the line to SURFACES\n    {line}"
        name = source.module.removeprefix("claims.")
        if source.room == "claims" != name and not name.startswith("_"):
            line = f'"{name.replace("_", "-")}",'
            if line not in texts["claims"].text:
                yield f"{texts['claims'].path}: add the line to CLAIMS\n    {line}"


def _made(tree: ast.Module, bases: set[str], makers: set[str]) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if any(isinstance(base, ast.Name) and base.id in bases for base in node.bases):
                yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made_by = node.value.func
            private = isinstance(node.targets[0], ast.Name) and node.targets[0].id.startswith("_")
            if isinstance(made_by, ast.Name) and made_by.id in makers and not private:
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _tasks(tree: ast.Module) -> Iterator[str]:
    """Public functions of no arguments that return a Task."""
    for node in tree.body:
        simple = isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not node.args.args
        if simple and isinstance(node.returns, ast.Name) and node.returns.id == "Task":
            yield node.name


def _surfaces(tree: ast.Module) -> Iterator[str]:
    """Functions under `surface`."""
    for node in tree.body:
        calls = [one.func for one in getattr(node, "decorator_list", ()) if isinstance(one, ast.Call)]
        if isinstance(node, ast.FunctionDef) and any(isinstance(f, ast.Name) and f.id == "surface" for f in calls):
            yield node.name


def too_long(files: list[Source]) -> Iterator[str]:
    for source in files:
        length = len(source.text.splitlines())
        if length > LONGEST_FILE:
            yield f"{source.path}: {length} lines, more than {LONGEST_FILE}: it has more than one subject"
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    yield f"{source.path}:{node.lineno}: {node.name} has {length} lines, more than {LONGEST_FUNCTION}"


def undocumented(files: list[Source]) -> Iterator[str]:
    for source in files:
        if source.text.strip() and not ast.get_docstring(source.tree):
            yield f"{source.path}:1: the file does not say what it is about"
        for node in source.tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                yield f"{source.path}:{node.lineno}: {node.name} has no docstring"


def private_places(files: list[Source]) -> Iterator[str]:
    for source in files:
        for number, line in enumerate(source.text.splitlines(), 1):
            if PRIVATE_PLACES.search(line):
                yield f"{source.path}:{number}: a path of one machine: {line.strip()[:80]}"
            if REGISTRIES.search(line):
                yield f"{source.path}:{number}: the address of a registry: {line.strip()[:80]}"


Rule = Callable[[list[Source]], Iterator[str]]
RULES: tuple[Rule, ...] = (wrong_directions, wrong_siblings, circles, missing_exports, too_long, undocumented)


# ---------------------------------------------------------------- they hold


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_house_rules(rule: Rule) -> None:
    complaints = list(rule(package()))
    assert not complaints, "\n" + "\n".join(complaints)


def test_no_path_of_one_machine_and_no_address_of_a_registry_in_any_file() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: there is no list of the files that belong to it")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    texts = [
        Source(str(f.relative_to(ROOT)), f.read_text(encoding="utf-8", errors="replace")) for f in files if f.exists()
    ]
    assert len(texts) > 80
    complaints = list(private_places(texts))
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("module", ["ravine", "ravine.cli", "ravine.core.record", "ravine.data"])
def test_heavy_packages_wait_until_they_are_needed(module: str) -> None:
    code = f"import sys, {module}; print(*{{'torch', 'numpy', 'scipy', 'sklearn', 'matplotlib'}} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []


def test_every_public_name_resolves_and_is_listed() -> None:
    assert len(ravine.__all__) == len(set(ravine.__all__))
    for name in ravine.__all__:
        value = getattr(ravine, name)
        assert value is getattr(ravine, name)
        assert isinstance(value, ModuleType) or value.__doc__, f"ravine.{name} has no docstring"
    assert set(ravine.__all__) <= set(dir(ravine))
    assert "__version__" in dir(ravine)
    with pytest.raises(AttributeError, match="module 'ravine' has no attribute 'optimizer_'"):
        _ = ravine.optimizer_


def test_no_public_name_is_hidden_by_a_file() -> None:
    """Importing ravine.race would set the attribute `race` of the package to a module."""
    modules = {source.module for source in package() if "." not in source.module}
    homes = {name for name in ravine.__all__ if not isinstance(getattr(ravine, name), ModuleType)}
    assert not modules & homes


def test_type_checkers_see_the_same_names() -> None:
    (front,) = (source for source in package() if not source.module)
    named = {
        alias.asname
        for node in ast.walk(front.tree) if isinstance(node, ast.If)
        for inner in ast.walk(node) if isinstance(inner, ast.ImportFrom)
        for alias in inner.names
    }  # fmt: skip
    assert named == set(ravine._HOMES)


# ---------------------------------------------------------------- and can fail


def complaints(rule: Rule, **files: str) -> list[str]:
    """What a rule says of files whose dots are written as two underscores."""
    sources = [Source(f"ravine/{name.replace('__', '/')}.py", text) for name, text in files.items()]
    return list(
        rule(
            [*sources, *(Source(f"ravine/{room}/__init__.py", "") for room in ("rules", "probes", "tasks", "surfaces"))]
        )
    )


@pytest.mark.parametrize(
    ("rule", "files", "message"),
    [
        (
            wrong_directions,
            {"core__rule": "", "core__task": "from ravine.rules import Adam"},
            "ravine/core/task.py:1: imports ravine.rules, but 'rules' stands above 'core'",
        ),
        (
            wrong_directions,
            {"rules__adam": "import os\ndef f():\n    from ravine import optimizer", "optimizer": ""},
            "ravine/rules/adam.py:3: imports ravine.optimizer, but 'optimizer' stands above",
        ),
        (
            wrong_directions,
            {"rules__adam": "from ravine.schedules import cosine", "schedules": ""},
            "ravine/rules/adam.py:1: imports ravine.schedules, but 'schedules' stands above 'rules'",
        ),
        (
            wrong_directions,
            {"loop": "import ravine"},
            "ravine/loop.py:1: imports ravine., but 'ravine' stands above 'loop'",
        ),
        (
            wrong_directions,
            {"loop": "from . import resume"},
            "ravine/loop.py:1: imports ..resume relatively: write the whole name",
        ),
        (
            wrong_directions,
            {"report__page": "from ravine.core.rule import Rule", "core__rule": ""},
            "ravine/report/page.py:1: imports ravine.core.rule; it may import core.errors, core.record",
        ),
        (wrong_directions, {"novelty": ""}, "ravine/novelty.py: the room 'novelty' stands in no line of TIERS in"),
        (
            wrong_siblings,
            {"rules__a": "import ravine.rules.b", "rules__b": "from ravine.rules.c import x", "rules__c": ""},
            "ravine/rules/a.py:1: imports its sibling rules.b, which imports siblings itself: take what ",
        ),
        (
            circles,
            {"core__a": "import ravine.core.b", "core__b": "import ravine.core.a"},
            "these files import one another in a circle, or import such: core.a, core.b",
        ),
        (
            missing_exports,
            {"rules__lion": "class Lion(Rule): ..."},
            "ravine/rules/__init__.py: add the line\n    from ravine.rules.lion import Lion as Lion",
        ),
        (
            missing_exports,
            {"rules__named": "muon = Composition('muon')"},
            "ravine/rules/__init__.py: add the line\n    from ravine.rules.named import muon as muon",
        ),
        (
            missing_exports,
            {"probes__noise": "class Noise(Probe): ..."},
            "ravine/probes/__init__.py: add the line\n    from ravine.probes.noise import Noise as Noise",
        ),
        (
            missing_exports,
            {"tasks__iris": "def mlp() -> Task: ..."},
            'ravine/tasks/__init__.py: add the line to TASKS\n    "mlp": "ravine.tasks.iris:mlp",',
        ),
        (
            missing_exports,
            {"claims": "CLAIMS = ()", "claims__root_n": "", "claims___digits": ""},
            'ravine/claims.py: add the line to CLAIMS\n    "root-n",',
        ),
        (
            missing_exports,
            {"surfaces__two_wells": "@surface(window=(0, 1, 0, 1))\ndef two_wells(x, y): ..."},
            'ravine/surfaces/__init__.py: add the line to SURFACES\n'
            '    "two-wells": "ravine.surfaces.two_wells:two_wells",',
        ),
        (too_long, {"loop": "x = 1\n" * 301}, "ravine/loop.py: 301 lines, more than 300: it has more than one subject"),
        (
            too_long,
            {"loop": "class A:\n    def f(self):\n" + "        x = 1\n" * 60},
            "ravine/loop.py:2: f has 61 lines, more than 60",
        ),
        (undocumented, {"loop": "x = 1"}, "ravine/loop.py:1: the file does not say what it is about"),
        (undocumented, {"loop": "'''Loop.'''\n\nclass Run: ..."}, "ravine/loop.py:3: Run has no docstring"),
        (
            private_places,
            {"loop": "\nPLACE = '" + "/" + "home/me/x'"},
            "ravine/loop.py:2: a path of one machine: PLACE = '/",
        ),
        (
            private_places,
            {"loop": "URL = 'https://" + "pypi." + "org/simple'"},
            "ravine/loop.py:1: the address of a registry: URL",
        ),
    ],
)
def test_a_broken_house_rule_is_told_with_its_place(rule: Rule, files: dict[str, str], message: str) -> None:
    found = complaints(rule, **files)
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize("rule", [*RULES, private_places], ids=lambda rule: rule.__name__)
def test_what_is_in_order_is_left_alone(rule: Rule) -> None:
    assert not complaints(
        rule,
        core__rule="'''Rule.'''\n",
        core__record="'''Record.'''\n",
        rules__adam="'''Adam.'''\nfrom ravine.core.rule import Rule\n",
        rules__named="'''Chains.'''\nfrom ravine.rules.adam import Adam\n",
        optimizer="'''Engine.'''\nfrom ravine import rules\ndef _private(): ...\n",
        report__page="'''Page at work/home, not /workshop/.'''\nfrom ravine.core.record import read\n",
        cli="'''Commands.'''\nimport ravine\nimport numpy\n",
    )
