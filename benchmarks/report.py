"""The report of all parts that have been run: report.md, and growth.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from fewshot.files import atomic
from fewshot.report.drawing import MARKERS, save, style


def write(out: Path) -> Path:
    """Make the report from the parts' csv files in a folder; returns its path."""
    rows, growth, machines = (_read(out, name) for name in ("rows", "growth", "machine"))
    if not growth.empty:
        _draw(growth, out / "growth.png")
    lines = ["# Benchmark", ""]
    for part, table in rows.groupby("part", sort=False):
        about = machines[machines["part"] == part].iloc[0].drop("part").dropna()
        lines += [f"## {part}", "", "; ".join(f"{name} {value}" for name, value in about.items()) + ".", ""]
        lines += ["| Setting | Rate | Plain form | Ratio | of processor time | |", "|---|---|---|---|---|---|"]
        row: Any
        for row in table.itertuples():
            rate, plain = _number(row.rate, row.unit), _number(row.plain, row.unit)
            ratio, processor = ("" if pd.isna(value) else f"{value:.1f}" for value in (row.ratio, row.processor_ratio))
            lines.append(
                f"| {row.setting} | {rate} | {plain} | {ratio} | {processor} | {'' if pd.isna(row.note) else row.note} |"
            )
        lines.append("")
    if not growth.empty:
        lines += ["![Seconds by number of tasks, shots, ways, and image size](growth.png)", ""]
    for part, points in growth.groupby("part", sort=False):
        lines += [f"## How cost grows: {part}", "", "Seconds; all else as usual.", "", "| | | |", "|---|---|---|"]
        for (what, factor), curve in points.groupby(["what", "factor"], sort=False):
            values = ", ".join(f"{value}: {taken:.3g}" for value, taken in zip(curve["value"], curve["seconds"], strict=True))
            lines.append(f"| {what} | {factor} | {values} |")
        lines.append("")
    with atomic(out / "report.md") as temporary:
        temporary.write_text("\n".join(lines))
    return out / "report.md"


def _read(out: Path, name: str) -> pd.DataFrame:
    order = {part: i for i, part in enumerate(("device", "stage1", "memory", "stage2", "evaluation", "easyfsl", "classify"))}
    files = sorted(out.glob(f"*.{name}.csv"), key=lambda path: order.get(path.name.split(".")[0], len(order)))
    tables = [table for table in map(pd.read_csv, files) if not table.empty]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["part"])


def _number(value: float, unit: str) -> str:
    return "" if pd.isna(value) else f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _draw(growth: pd.DataFrame, path: Path) -> None:
    with style():
        import matplotlib.pyplot as plt
        from matplotlib.lines import Line2D

        factors = list(dict.fromkeys(growth["factor"]))
        figure, axes = plt.subplots(1, len(factors), figsize=(3.4 * len(factors), 3.6), layout="constrained", squeeze=False)
        names = list(dict.fromkeys(zip(growth["part"], growth["what"], strict=True)))
        for ax, factor in zip(axes[0], factors, strict=True):
            for number, (part, what) in enumerate(names):
                curve = growth[(growth["part"] == part) & (growth["what"] == what) & (growth["factor"] == factor)]
                if not curve.empty:
                    ax.plot(curve["value"], curve["seconds"], marker=MARKERS[number], color=f"C{number}")
            ax.set(xscale="log", yscale="log", xlabel=factor)
            ticks = sorted(set(growth.loc[growth["factor"] == factor, "value"]))
            ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45)
            ax.minorticks_off()
        axes[0][0].set_ylabel("seconds")
        handles = [Line2D([], [], marker=MARKERS[i], color=f"C{i}", label=f"{p}: {w}") for i, (p, w) in enumerate(names)]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
        save(figure, path)
