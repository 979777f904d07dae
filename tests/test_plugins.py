"""Rules, schedules and probes that other packages bring as entry points."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest

PACKAGE = '''
from dataclasses import dataclass
from ravine.checks import check_rule
from ravine.core.probe import Probe
from ravine.core.rule import Rule
from ravine.schedules import Schedule

@dataclass(frozen=True)
class Tenfold(Rule):
    """Ten times the gradient."""
    default_lr = 0.01
    def update(self, g, p, t, **state):
        return 10 * g, {}

@dataclass(frozen=True)
class hold(Schedule):
    """One."""
    def __call__(self, k):
        return 1.0

@dataclass(frozen=True)
class Seen(Probe):
    """The step."""
    def __call__(self, moment):
        return {"seen": float(moment.step)}
'''


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with another package, as pip leaves it."""
    (tmp_path / "other.py").write_text(PACKAGE)
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    declared = "".join(f"[ravine.{group}]\nmine = other\n" for group in ("rules", "schedules", "probes"))
    (tmp_path / "other-1.0.dist-info" / "entry_points.txt").write_text(declared + "broken = nothing_there\n")
    return tmp_path


def test_names_of_other_packages_work_in_specs_and_lists_and_a_broken_one_is_warned_of(installed: Path) -> None:
    script = textwrap.dedent("""
        import ravine, warnings
        from ravine.cli import main
        task = ravine.task("quadratic")
        moments = list(ravine.train(task, "tenfold(lr=1e-4) @ hold", steps=4, every=2))
        assert moments[-1].step == 4
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                ravine.probes.make(ravine.core.spec.parse_links("sen")[0])
            except ravine.RavineError as error:
                assert "did you mean 'seen'" in str(error), error
        assert "ravine.probes: 'broken' (nothing_there) cannot be imported" in str(said[0].message)
        import sys
        sys.argv = ["ravine", "list", "optimizers", "--json"]
        main()
    """)
    call = [sys.executable, "-c", script]
    done = subprocess.run(call, cwd=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"tenfold"' in done.stdout


def test_the_example_package_installs_and_its_names_are_known_to_every_command(tmp_path: Path) -> None:
    pytest.importorskip("pip")
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(Path(__file__).parents[1] / "examples" / "plugin", source)  # pip writes beside what it builds
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target"]
    subprocess.run([sys.executable, *pip, str(target), str(source)], check=True, timeout=300)
    paths = os.pathsep.join([str(target), str(Path(__file__).parents[1])])
    python = partial(
        subprocess.run, cwd=source, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    listed = python([sys.executable, "-m", "ravine", "list", "optimizers", "--json"])
    assert '"power_sign"' in listed.stdout, listed.stderr
    spec = ["--optimizer", "power_sign(beta=0.8)", "--probe", "weight_norm", "--steps", "200"]
    trained = python([sys.executable, "-m", "ravine", "train", "quadratic", *spec, "--json"])
    assert trained.returncode == 0, trained.stderr
    rows = json.loads(trained.stdout)["rows"]
    assert rows[-1]["metric"] < 0.2 * rows[0]["metric"]
    assert rows[-1]["weight_norm"] < rows[1]["weight_norm"]
    tested = python([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_power_sign.py"])
    assert "3 passed" in tested.stdout, tested.stdout
