"""An evaluation as a table for the terminal and as one HTML file that needs no network."""

import base64
import io
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.files import write_atomically
from indexer.calibration import Calibration
from indexer.evaluate import Report, Row
from indexer.measures import CUTOFFS, PER_CONTEXT, PER_QUERY

ABREAST = 3  # rows of the table that fit a terminal side by side
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left }
small { opacity: .7; white-space: nowrap }
img { max-width: 100%; background: white; border-radius: .5rem }
"""


def table(report: Report) -> Iterator[str]:
    """The report as lines of text for a terminal."""
    yield (
        f"{report.contexts:,} contexts ({report.queries:,} queries) over {report.papers:,} papers, "
        f"encoder {report.encoder}"
    )
    if report.drawn_from:
        yield _sample(report)
    if report.missing:
        one = report.missing == 1
        yield (
            f"{report.missing:,} cited {'paper is' if one else 'papers are'} not in the corpus and "
            f"{'counts' if one else 'count'} as not found"
        )
    for start in range(0, len(report.rows), ABREAST):
        yield from _rows(report.rows[start : start + ABREAST])
    for row, measured in report.calibration.items():
        yield ""
        yield from _calibration_lines(row, measured)
    yield "In brackets: 95% intervals, bootstrap over citing papers."


def _rows(rows: list[Row]) -> Iterator[str]:
    """The measures, slices and costs of some rows, side by side."""
    for title, names in (("per query", PER_QUERY), ("per context", PER_CONTEXT)):
        yield ""
        yield f"{title:12}" + "".join(f"{row.name:<22}" for row in rows).rstrip()
        for name in names:
            cells = (f"{row.means[name]:.3f} [{_range(row.intervals[name])}]" for row in rows)
            yield f"  {name:10}" + "".join(f"{cell:<22}" for cell in cells).rstrip()
    yield from _slice_lines(rows)
    yield ""
    yield "cost"
    for name, unit in (("p50", " ms"), ("p95", " ms"), ("seconds", " s for all"), ("memory", " MB, peak")):
        cells = (f"{getattr(row, name):,}{unit}" for row in rows)
        yield f"  {name:10}" + "".join(f"{cell:<22}" for cell in cells).rstrip()


def _sample(report: Report) -> str:
    return f"the queries are a sample, always the same, of {report.drawn_from:,}"


def _calibration_lines(row: str, c: Calibration) -> Iterator[str]:
    yield f"calibration of {row}"
    yield f"  {c.shown:.3f}     expected error of the probabilities of the first ten hits"
    yield f"  {c.top:.3f}     of the first hit"
    if c.said:
        yield f"  {c.said:<10,}queries are told that nothing fits (below {c.threshold:.3f});"
        yield f"  {c.right:<10.3f}of them have no cited paper among the first ten"
    yield f"  {c.auroc:.3f}     AUROC: told apart from themselves without the cited papers"


def _slice_lines(rows: list[Row]) -> Iterator[str]:
    if rows and rows[0].slices:
        yield ""
        yield "hit@10 of parts of the contexts"
    for part, facts in (rows[0].slices if rows else {}).items():
        yield f"  {part} ({facts['contexts']:,})"
        cells = (f"{row.slices[part]['hit@10']:.3f} [{_range(row.slices[part]['interval'])}]" for row in rows)
        yield " " * 12 + "".join(f"{cell:<22}" for cell in cells).rstrip()


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f}, {interval[1]:.3f}"


def write(path: Path, report: Report) -> None:
    """Write `page(report)` to a file. Raises UserError where it cannot be written."""
    try:
        write_atomically(path, page(report).encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None


def page(report: Report) -> str:
    """The report as an HTML page with its plots inside; nothing in it is loaded or run."""
    parts = [
        f"<p>{report.contexts:,} contexts ({report.queries:,} queries) of {escape(report.source)} over "
        f"{report.papers:,} papers, encoder {escape(report.encoder)}. {report.missing:,} cited papers are "
        "not in the corpus and count as not found. In brackets: 95% intervals, bootstrap over citing "
        "papers.</p>",
        *([f"<p>{_sample(report).capitalize()}.</p>"] if report.drawn_from else []),
        _plot(report),
        "<h2>Per query</h2>",
        _measures(report.rows, PER_QUERY),
        "<h2>Per context</h2>",
        _measures(report.rows, PER_CONTEXT),
    ]
    if any(row.slices for row in report.rows):
        parts += ["<h2>hit@10 of parts of the contexts</h2>", _slices(report.rows)]
    for row, measured in report.calibration.items():
        title, *lines = map(escape, _calibration_lines(row, measured))
        parts += [f"<h2>{title.capitalize()}</h2>", f"<p>{'<br>'.join(lines)}</p>", _reliability(measured)]
    parts += ["<h2>Cost</h2>", _costs(report.rows)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Citemark: evaluation</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style></head>'
        "<body><h1>Evaluation</h1>" + "\n".join(parts) + "</body></html>\n"
    )


def _table(head: list[str], lines: list[list[str]]) -> str:
    def row(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + row(head, "th") + "".join(row(line, "td") for line in lines) + "</table>"


def _measures(rows: list[Row], names: tuple[str, ...]) -> str:
    def cell(row: Row, name: str) -> str:
        return f"{row.means[name]:.3f} <small>[{_range(row.intervals[name])}]</small>"

    return _table(["", *names], [[escape(row.name), *(cell(row, name) for name in names)] for row in rows])


def _slices(rows: list[Row]) -> str:
    def cell(row: Row, part: str) -> str:
        return f"{row.slices[part]['hit@10']:.3f} <small>[{_range(row.slices[part]['interval'])}]</small>"

    lines = [
        [escape(part), f"{facts['contexts']:,}", *(cell(row, part) for row in rows)]
        for part, facts in rows[0].slices.items()
    ]
    return _table(["", "contexts", *(escape(row.name) for row in rows)], lines)


def _costs(rows: list[Row]) -> str:
    lines = [
        [escape(row.name), f"{row.p50} ms", f"{row.p95} ms", f"{row.seconds:,} s", f"{row.memory:,} MB"]
        for row in rows
    ]
    return _table(["", "p50 of one query", "p95", "all queries in batches", "peak memory so far"], lines)


def _plot(report: Report) -> str:
    """The share of cited papers found among the first k, for each ranking, as an image in the page."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for row in report.rows:
        values = [row.means[f"hit@{k}"] for k in CUTOFFS]
        low, high = zip(*(row.intervals[f"hit@{k}"] for k in CUTOFFS), strict=True)
        (line,) = axes.plot(CUTOFFS, values, marker="o", label=row.name)
        axes.fill_between(CUTOFFS, low, high, alpha=0.15, color=line.get_color())
    axes.set(xscale="log", xlabel="k", ylabel="hit@k", ylim=(0, 1), xticks=CUTOFFS, xticklabels=CUTOFFS)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    return _image(figure, "hit at k, from 1 to 300, for each ranking, with its 95% interval")


def _reliability(calibration: Calibration) -> str:
    """The share that was cited against the probability that was shown, as an image in the page."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    filled = [(count, told, right) for count, told, right in calibration.bins if count]
    counts, told, right = zip(*filled, strict=True) if filled else ((), (), ())
    figure, axes = pyplot.subplots(figsize=(5, 5))
    axes.plot((0, 1), (0, 1), color="grey", linestyle=":")
    axes.plot(told, right, marker="o")
    for count, x, y in zip(counts, told, right, strict=True):
        axes.annotate(f"{count:,}", (x, y), xytext=(6, -10), textcoords="offset points", fontsize=8)
    axes.set(xlabel="probability shown", ylabel="share that was cited", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    return _image(figure, "the share of hits that were cited, against the probability that was shown")


def _image(figure: Any, alt: str) -> str:
    from matplotlib import pyplot

    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=144, bbox_inches="tight")
    pyplot.close(figure)
    encoded = base64.b64encode(image.getvalue()).decode()
    return f'<p><img src="data:image/png;base64,{encoded}" alt="{alt}"></p>'
