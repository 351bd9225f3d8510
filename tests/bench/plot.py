"""The bench's rows as a table to read and a picture."""

from collections.abc import Iterator
from pathlib import Path

from measure import Row, exponent

FLOP_A_TOKEN = 23e6  # of the default encoder: 2 x its weights, and attention


def table(rows: dict[str, Row]) -> Iterator[str]:
    """Lines of text, ratios beside the numbers."""
    limits = rows.get("limits", {})
    if limits:
        yield (
            f"machine: {limits['threads']} threads, {limits['fp32_gflops']:.0f} GFLOP/s in fp32, "
            f"{limits['bf16_gflops']:.0f} in bf16, {limits['read_gb_s']:.1f} GB/s read from memory"
        )
    encoded = {name.partition("/")[2]: row for name, row in rows.items() if name.startswith("encode/")}
    first = next(iter(encoded.values()), None)
    for way, row in encoded.items():
        line = f"{way:28} {row['papers_s']:8.1f} papers/s  {row['papers_s'] / first['papers_s']:5.2f} x"
        if limits:
            flops = row["papers_s"] * row["tokens_a_paper"] * FLOP_A_TOKEN
            peak = limits["fp32_gflops" if row["precision"] == "fp32" else "bf16_gflops"] * 1e9
            line += f"  {flops / peak:4.0%} of the matrix product's rate"
        yield line + f"  cosine with the first {row['cosine_with_first']:.5f}"
    for size in sizes(rows):
        flat = rows.get(f"search/{size}/faiss flat")
        yield f"{size:,} vectors, k = 100"
        for row in of_size(rows, size):
            line = f"  {row['engine']:16} p50 {row['p50_ms']:8.2f} ms  p99 {row['p99_ms']:8.2f} ms"
            line += f"  recall {row['recall']:.4f}  memory {row['own_mb']:7.0f} MB"
            if flat:
                line += f"  {flat['p50_ms'] / row['p50_ms']:6.1f} x flat"
            if "build_s" in row:
                line += f"  built in {row['build_s']:.0f} s"
            if "queries_s" in row:
                line += f"  {row['queries_s']:.0f} queries/s together"
            yield line
        if limits:
            least = 4 * 384 * size / limits["read_gb_s"] / 1e6
            yield f"  reading every fp32 vector once at the memory's rate: {least:.1f} ms"
    for name, row in rows.items():
        if name.startswith("query/"):
            yield (
                f"{row['papers']:,} papers, whole query, {row['ranking']:7} p50 {row['p50_ms']:7.1f} ms  "
                f"p99 {row['p99_ms']:7.1f} ms  memory {row['own_mb']:.0f} MB, "
                f"mapped {row['mapped_mb']:.0f} MB  {row['bytes_a_paper']:.0f} bytes a paper on disk"
            )
        for chosen, measured in row.get("filters", {}).items():
            yield (
                f"{row['papers']:,} papers, filter {chosen:18} allows {measured['share']:.3%}  "
                f"p50 {measured['p50_ms']:6.2f} ms  recall {measured['recall']:.4f}"
            )
    for engine in sorted({row["engine"] for row in rows.values() if "build_s" in row and "engine" in row}):
        built = [(row["vectors"], row["build_s"]) for row in rows.values() if row.get("engine") == engine]
        if len(built) > 1:
            yield f"build time of {engine}: vectors ^ {exponent(*zip(*built, strict=True)):.2f}"
    if "update" in rows:
        row = rows["update"]
        yield (
            f"update of {row['changed']} in {row['papers']:,} papers: {row['update_s']:.2f} s, "
            f"a rebuild {row['build_s']:.1f} s: {row['share']:.1%}"
        )
    if "read" in rows:
        row = rows["read"]
        yield (
            f"snapshot: {row['lines_s']:,.0f} lines/s, {row['lines_s_of_processor']:,.0f} a second of "
            f"processor, {row['own_mb']:.0f} MB"
        )


def sizes(rows: dict[str, Row]) -> list[int]:
    return sorted({row["vectors"] for row in rows.values() if "engine" in row})


def of_size(rows: dict[str, Row], size: int) -> list[Row]:
    return [row for row in rows.values() if "engine" in row and row["vectors"] == size]


def draw(rows: dict[str, Row], path: Path) -> None:
    """Latency by size, and encoding by way."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), width_ratios=(3, 2))
    for engine in dict.fromkeys(row["engine"] for row in rows.values() if "engine" in row):
        line = sorted((r["vectors"], r["p50_ms"]) for r in rows.values() if r.get("engine") == engine)
        left.plot(*zip(*line, strict=True), marker="o", label=engine, lw=2.5 if "ours" in engine else 1)
    left.set(
        xscale="log", yscale="log", xlabel="vectors of 384 dimensions", ylabel="ms a query (median, k = 100)"
    )
    left.grid(alpha=0.3)
    if left.lines:
        left.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    encoded = {name.partition("/")[2]: row for name, row in rows.items() if name.startswith("encode/")}
    right.barh(list(encoded), [row["papers_s"] for row in encoded.values()], color="#4878a8")
    right.invert_yaxis()
    right.set(xlabel="papers encoded a second")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
