"""What was done to a model, parameter by parameter, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One parameter: its role, what it got, the deviation it was drawn with (None: not drawn), and the reason."""

    name: str
    role: str
    what: str
    std: float | None
    why: str


@dataclass(frozen=True)
class Report:
    """What `apply` did. `str(report)` is a table; `report["0.weight"]` is one row; `report.left` names what is left."""

    spec: str
    rows: tuple[Row, ...]

    def __getitem__(self, name: str) -> Row:
        return next((row for row in self.rows if row.name == name), None) or self._missing(name)

    def _missing(self, name: str) -> Row:
        raise KeyError(f"no parameter '{name}'; there are {', '.join(row.name for row in self.rows)}")

    @property
    def left(self) -> tuple[str, ...]:
        """The names of parameters that are as they were."""
        return tuple(row.name for row in self.rows if row.what == LEFT)

    def __str__(self) -> str:
        cells = [("parameter", "role", "what", "std", "why")]
        for row in self.rows:
            cells.append((row.name, row.role, row.what, "" if row.std is None else f"{row.std:.4g}", row.why))
        widths = [max(len(line[i]) for line in cells) for i in range(4)]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[4]]) for line in cells]
        return "\n".join([f"initialized by {self.spec}", *lines])


LEFT = "left as it was"
