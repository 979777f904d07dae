"""A figure as numbers: what a record keeps, so that pictures can be drawn anew without running anything again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["line", "points", "both", "bars", "reference"]


def floats(values: Iterable[Any]) -> list[float]:
    """Numbers of any kind (arrays and tensors too) as plain ones of six digits, which is more than a picture shows."""
    return [float(f"{float(value):.6g}") for value in values]


@dataclass(frozen=True)
class Series:
    """One curve. kind: "reference" is a thin dashed line, for what theory foretells; `low` and `high` make a band."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    kind: Kind = "line"

    def __post_init__(self) -> None:
        for name in ("x", "y", "low", "high"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, floats(getattr(self, name)))
        lengths = {len(values) for values in (self.x, self.y, self.low, self.high) if values is not None}
        if len(lengths) != 1:
            raise ValueError(f"series '{self.label}': x, y, low and high differ in length: {sorted(lengths)}")


@dataclass(frozen=True)
class Ground:
    """Contours under the curves: z[i][j] belongs to (x[j], y[i]); drawn at `levels`."""

    x: Sequence[float]
    y: Sequence[float]
    z: Sequence[Sequence[float]]
    levels: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `log` names the logarithmic ones: "", "x", "y" or "xy". `at` names places on the x-axis."""

    x: str
    y: str
    series: Sequence[Series]
    title: str = ""
    log: Literal["", "x", "y", "xy"] = ""
    at: Mapping[str, float] = field(default_factory=dict)
    ground: Ground | None = None
    limits: Sequence[float] | None = None
    """x from, x to, y from, y to; all of the data where it is not given."""


@dataclass(frozen=True)
class Figure:
    """Panels side by side, and the sentence below them that says what to see."""

    caption: str
    panels: Sequence[Panel]

    def row(self) -> dict[str, Any]:
        """As a record keeps it."""
        return asdict(self)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Figure":
        """Read back from a record."""
        return cls(row["caption"], [_panel(panel) for panel in row["panels"]])


def _panel(row: Mapping[str, Any]) -> Panel:
    series = [Series(**{name: _numbers(value) for name, value in one.items()}) for one in row["series"]]
    ground = Ground(**row["ground"]) if row["ground"] else None
    return Panel(**{**row, "series": series, "ground": ground})


def _numbers(value: Any) -> Any:
    """A record keeps numbers that are not finite as nothing."""
    return [float("nan") if one is None else one for one in value] if isinstance(value, list) else value
