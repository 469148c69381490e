"""A benchmark's results as the Markdown page that is committed."""

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.rounds import Ratio

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Row:
    """One variant: its ratio to the baseline, and its absolute figures."""

    name: str
    ratio: Ratio
    figures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Variants measured side by side."""

    title: str
    ratio_title: str
    """What the ratio compares."""
    figure_titles: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's page."""

    name: str
    title: str
    question: str
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when it was measured."""

    cores: int
    processor: str
    load_average: float
    """Over one minute, before the first measurement."""
    revision: str
    day: str

    @classmethod
    def here(cls) -> "Machine":
        """Describe this machine now."""
        return cls(
            cores=len(os.sched_getaffinity(0)),
            processor=_processor(),
            load_average=os.getloadavg()[0],
            revision=_revision(),
            day=datetime.now(UTC).date().isoformat(),
        )

    def __str__(self) -> str:
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return (
            f"Measured on {self.day} at revision {self.revision}: {cores}, {self.processor}, "
            f"load average {self.load_average:.1f} at the start."
        )

    @property
    def busy(self) -> bool:
        """Whether the load was too high for meaningful absolute times."""
        return self.load_average > 0.5 * self.cores


def write(report: Report, machine: Machine, folder: Path) -> Path:
    """Write `<folder>/<name>.md` atomically; return its path."""
    path = folder / f"{report.name}.md"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(markdown(report, machine), "utf-8")
    temporary.replace(path)
    return path


def markdown(report: Report, machine: Machine) -> str:
    """Return the page."""
    lines = [f"# {report.title}", "", report.question, "", str(machine)]
    if machine.busy:
        lines.append(
            "**The machine was busy with other work**: the ratios hold, the absolute figures say "
            "little."
        )
    lines += [f"Reproduce it with `python -m benchmarks {report.name}`.", ""]
    for table in report.tables:
        lines += _table(table)
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Table) -> list[str]:
    spread = any(row.ratio.lowest != row.ratio.highest for row in table.rows)
    titles = ["", f"**{table.ratio_title}**", *(["lowest to highest"] if spread else [])]
    titles += table.figure_titles
    lines = [f"## {table.title}", "", _line(titles), _line(["---", *["---:"] * (len(titles) - 1)])]
    for row in table.rows:
        cells = [row.name, f"**{row.ratio.median:.2f}**"]
        if spread:
            cells.append(f"{row.ratio.lowest:.2f} to {row.ratio.highest:.2f}")
        lines.append(_line([*cells, *row.figures]))
    return [*lines, "", *([table.note, ""] if table.note else [])]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def _revision() -> str:
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or "unknown"
