"""Curves as SVG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.family": "sans-serif", "font.size": 10})

from matplotlib import pyplot as plt  # noqa: E402  # the backend is chosen before
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

__all__ = ["bars", "curves"]

Series = Mapping[str, Sequence[tuple[float, float]]]


def curves(target: Path, series: Series, *, title: str, across: str, up: str) -> None:
    """Lines over a logarithmic axis, both axes logarithmic: a flat line is a constant cost."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, points in series.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    ticks = sorted({x for points in series.values() for x, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_major_formatter("{x:g}")
    _finish(axes, title=title, across=across, up=up)
    _save(figure, target)


def bars(target: Path, series: Series, labels: Sequence[str], *, title: str, across: str, up: str) -> None:
    """Groups of bars, one group a label; of each point the first is the label's number."""
    figure, axes = plt.subplots(figsize=(7, 4))
    width = 0.8 / max(1, len(series))
    for place, (name, points) in enumerate(series.items()):
        axes.bar(
            [x + (place - (len(series) - 1) / 2) * width for x, _ in points], [y for _, y in points], width, label=name
        )
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(bottom=0)
    _finish(axes, title=title, across=across, up=up)
    _save(figure, target)


def _finish(axes: Axes, *, title: str, across: str, up: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()


def _save(figure: Figure, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)
