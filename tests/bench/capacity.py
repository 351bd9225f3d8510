"""The capacity plan's tables, computed from its constants: the tables of docs/capacity.md.

    python tests/bench/capacity.py                      # print them
    python tests/bench/capacity.py docs/capacity.md     # write them into the document, between its marks

To plan with your own machines, change CONSTANTS and GPUS. A test holds the document to what is printed.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10, sqrt
from pathlib import Path
from types import SimpleNamespace

CORPORA = {"3 million (arXiv)": 3e6, "250 million (OpenAlex)": 250e6, "1 billion passages": 1e9}
BEGIN, END = "<!-- computed by tests/bench/capacity.py -->", "<!-- end of what is computed -->"
HOUR, DAY, GB, TB = 3600, 86_400, 1e9, 1e12


@dataclass(frozen=True)
class Constant:
    """A number, its unit and where it comes from: measured (how), published, or assumed."""

    value: float
    unit: str
    origin: str


SCAN = "measured, `scan.py`"
CONSTANTS = {
    "dimension": Constant(384, "numbers a vector", "all-MiniLM-L6-v2"),
    "papers_bytes": Constant(486, "bytes a paper", f"{SCAN}: papers.arrow"),
    "words_bytes": Constant(649, "bytes a paper", f"{SCAN}: words/"),
    "counts_bytes": Constant(160, "bytes a paper", "the same index: 77.8 postings of 2 bytes, a length of 4"),
    "shard_bytes": Constant(793, "bytes a paper", "measured: a shard of 2,048 papers, ids of 16 letters"),
    "pq_bytes": Constant(48, "bytes a vector", "chosen: 96 parts of 4 dimensions, 4 bits each"),
    "id_bytes": Constant(8, "bytes a vector", "FAISS keeps 64-bit ids in the lists of an IVF index"),
    "cpu_rate": Constant(
        32, "papers a second, 2 cores", "measured: README, build of 100,000 abstracts, busy"
    ),
    "build_base": Constant(1.57e9, "bytes", "measured: README, peak of a build, less its vectors"),
    "tokens": Constant(206, "tokens a paper", f"{SCAN}: mean of the abstracts"),
    "tokenise_us": Constant(448, "µs a paper, 1 core", f"{SCAN}: the tokenizer"),
    "flops_token": Constant(
        23e6, "FLOP a token", "2 × 10.6 million weights of the 6 layers + attention over them"
    ),
    "utilisation": Constant(0.10, "of a GPU's peak", "**assumed**: no GPU has run this project; measure it"),
    "fp16_ns": Constant(46, "ns a vector, 1 core", SCAN),
    "int8_ns": Constant(53, "ns a vector, 1 core", SCAN),
    "pq_ns": Constant(2.1, "ns a vector, 1 core", f"{SCAN}: PQ96x4fs"),
    "ivf_ns": Constant(3.34, "ns a code, 1 core", f"{SCAN}: IVF256,PQ96x4fs, 64 lists a query"),
    "words_ns": Constant(17, "ns a paper, 1 core", f"{SCAN}: BM25 of a sentence"),
    "query_ms": Constant(
        70, "ms", "measured: README, HTTP with 1 client over 12,000 papers; mostly encoding"
    ),
    "read_us": Constant(36, "µs a record, 1 core", "measured: README, 3,000,000 records of arXiv's schema"),
    "words_us": Constant(166, "µs a paper, 1 core", f"{SCAN}: lexical.write"),
    "add_us": Constant(1.04, "µs a vector, 1 core", f"{SCAN}: adding to the fp16 index"),
    "check_rate": Constant(1.27e9, "bytes a second, 1 core", f"{SCAN}: sha256 of every file"),
    "cores": Constant(32, "cores a machine", "assumed: the machine planned with"),
    "memory": Constant(256e9, "bytes a machine", "assumed: the machine planned with"),
    "memory_rate": Constant(200e9, "bytes a second", "assumed: what the memory of such a machine delivers"),
    "nprobe": Constant(64, "lists a query", "assumed: measured with 256 lists alone, see below"),
    "machine_price": Constant(1.5, "$ an hour", "assumed: put your own"),
}
c = SimpleNamespace(**{name: constant.value for name, constant in CONSTANTS.items()})


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet: dense bf16 FLOP/s, bytes of memory, bytes a second; its price is assumed."""

    flops: float
    memory: float
    bandwidth: float
    price: float


GPUS = {
    "L4": Gpu(121e12, 24e9, 300e9, 0.8),
    "A100 80 GB": Gpu(312e12, 80e9, 2039e9, 2.0),
    "H100 80 GB": Gpu(989e12, 80e9, 3350e9, 3.0),
}


@dataclass(frozen=True)
class Row:
    """A figure, its formula in words and its value for n papers."""

    figure: str
    formula: str
    value: Callable[[float], str]


def number(value: float) -> str:
    """Three significant digits, as people write them."""
    if value == 0:
        return "0"
    digits = max(0, 2 - floor(log10(abs(value))))
    rounded = round(value, 2 - floor(log10(abs(value))))
    return f"{rounded:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{rounded:,.0f}"


def size(value: float) -> str:
    return f"{number(value / TB)} TB" if value >= TB else f"{number(value / GB)} GB"


def duration(seconds: float) -> str:
    for unit, length in (("days", DAY), ("h", HOUR), ("min", 60), ("s", 1)):
        if seconds >= 2 * length:
            return f"{number(seconds / length)} {unit}"
    return f"{number(seconds * 1e3)} ms"


def index_bytes(vector: float) -> float:
    """Of a paper in an index whose vectors take so many bytes."""
    return c.papers_bytes + c.words_bytes + c.counts_bytes + vector


def machines(n: float, vector: float) -> int:
    """So many that the vectors and words of n papers lie in memory, with a fifth of it left."""
    return ceil(n * (vector + c.words_bytes) / (0.8 * c.memory))


def lists(n: float) -> float:
    """Cells of an inverted file, by the usual rule."""
    return 4 * sqrt(n)


def scan(n: float, ns: float, vector: float, over: int) -> float:
    """Seconds of one look at all of n vectors on so many machines: the cores' time, or their memory's."""
    return max(n * ns * 1e-9 / c.cores, n * vector / c.memory_rate) / over


def gpu_rate(gpu: Gpu) -> float:
    """Papers a second."""
    return float(gpu.flops * c.utilisation / (c.tokens * c.flops_token))


def gpus_for(n: float, gpu: Gpu) -> int:
    """So many that n vectors of 16-bit floats lie in their memory, with a tenth of it left."""
    return ceil(n * 2 * c.dimension / (0.9 * gpu.memory))


FP16, INT8, PQ, IVF = 2 * c.dimension, c.dimension, c.pq_bytes, c.pq_bytes + c.id_bytes
HELD = "n × ({} + words_bytes) / (0.8 × memory)"

BYTES = (
    Row("papers table", "n × papers_bytes", lambda n: size(n * c.papers_bytes)),
    Row("words", "n × words_bytes", lambda n: size(n * c.words_bytes)),
    Row("counts of words, for updates", "n × counts_bytes", lambda n: size(n * c.counts_bytes)),
    Row("vectors, fp16 (the default)", "n × 2 × dimension", lambda n: size(n * FP16)),
    Row("vectors, int8", "n × dimension", lambda n: size(n * INT8)),
    Row("vectors, PQ", "n × pq_bytes", lambda n: size(n * PQ)),
    Row("vectors, IVF and PQ", "n × (pq_bytes + id_bytes)", lambda n: size(n * IVF)),
    Row("an index, fp16", "papers + words + counts + fp16", lambda n: size(n * index_bytes(FP16))),
    Row("shards of a build", "n / 2,048", lambda n: f"{ceil(n / 2048):,}"),
    Row("their bytes", "n × shard_bytes", lambda n: size(n * c.shard_bytes)),
    Row("memory of a build", "build_base + n × 2 × dimension", lambda n: size(c.build_base + n * FP16)),
    Row("machines for search, fp16", HELD.format("2 × dimension"), lambda n: str(machines(n, FP16))),
    Row("machines for search, int8", HELD.format("dimension"), lambda n: str(machines(n, INT8))),
    Row("machines for search, IVF", HELD.format("pq_bytes + id_bytes"), lambda n: str(machines(n, IVF))),
)  # fmt: skip


def encoding() -> Iterator[Row]:
    """Hours and cost of encoding n papers, by hardware."""
    cores = c.cpu_rate / 2
    for count in (1, 64):
        yield Row(
            f"{count} machine{'s' if count > 1 else ''} of {c.cores} cores",
            f"n / (cpu_rate / 2 × cores × {count})",
            lambda n, count=count: duration(n / (cores * c.cores * count)),
        )
    for name, gpu in GPUS.items():
        for count in (1, 8, 64):
            yield Row(
                f"{count} × {name} (estimate)",
                f"n / ({number(gpu_rate(gpu))} a second × {count})",
                lambda n, gpu=gpu, count=count: duration(n / (gpu_rate(gpu) * count)),
            )
    yield Row(
        "cost on CPUs",
        "n / (cpu_rate / 2 × cores) × machine_price",
        lambda n: f"${number(n / (cores * c.cores) / HOUR * c.machine_price)}",
    )
    for name, gpu in GPUS.items():
        yield Row(
            f"cost on {name} (estimate)",
            "GPU hours × price",
            lambda n, gpu=gpu: f"${number(n / gpu_rate(gpu) / HOUR * gpu.price)}",
        )


def searching() -> Iterator[Row]:
    """Time and cost of a query, the encoding of its text (query_ms) aside."""
    for name, ns, vector in (
        ("fp16", c.fp16_ns, FP16),
        ("int8", c.int8_ns, INT8),
        ("PQ, fast scan", c.pq_ns, PQ),
    ):
        yield Row(
            f"exact look at {name}" if vector != PQ else f"look at all, {name}",
            "the larger of n × ns / cores and n × bytes / memory_rate, / machines",
            lambda n, ns=ns, vector=vector: duration(scan(n, ns, vector, machines(n, vector))),
        )
    yield Row(
        "IVF and PQ, 1 core",
        "4 × √n × fp16_ns + n × nprobe / (4 × √n) × ivf_ns",
        lambda n: duration((lists(n) * c.fp16_ns + n * c.nprobe / lists(n) * c.ivf_ns) * 1e-9),
    )
    for name, gpu in list(GPUS.items())[1:]:
        yield Row(
            f"exact fp16 on {name} (estimate)",
            "GPUs: n × 2 × dimension / (0.9 × memory); n × 2 × dimension / bandwidth / GPUs",
            lambda n, gpu=gpu: f"{gpus_for(n, gpu)}; {duration(n * FP16 / gpu.bandwidth / gpus_for(n, gpu))}",
        )
    yield Row(
        "words, each machine its part on 1 core",
        "n × words_ns / machines for fp16",
        lambda n: duration(n * c.words_ns * 1e-9 / machines(n, FP16)),
    )
    yield Row(
        "cost of a million queries, exact fp16 and words",
        "n × (fp16_ns + words_ns) / cores × machine_price",
        lambda n: f"${number(n * (c.fp16_ns + c.words_ns) * 1e-9 / c.cores / HOUR * c.machine_price * 1e6)}",
    )
    yield Row(
        "keeping it ready, a month",
        "machines for fp16 × 730 h × machine_price",
        lambda n: f"${number(machines(n, FP16) * 730 * c.machine_price)}",
    )


def windows() -> Iterator[Row]:
    """How long a build and an update take, and which part of it is on one machine."""
    gpu = GPUS["A100 80 GB"]
    alone = (c.read_us + c.words_us + c.add_us) * 1e-6 + 2 * index_bytes(FP16) / c.check_rate
    yield Row("reading the corpus", "n × read_us", lambda n: duration(n * c.read_us * 1e-6))
    yield Row("encoding on 8 × A100 (estimate)", "as above", lambda n: duration(n / (8 * gpu_rate(gpu))))
    yield Row("vectors into the index", "n × add_us", lambda n: duration(n * c.add_us * 1e-6))
    yield Row("words into the index", "n × words_us", lambda n: duration(n * c.words_us * 1e-6))
    yield Row(
        "checksums, written and checked once",
        "2 × n × index bytes / check_rate",
        lambda n: duration(2 * n * index_bytes(FP16) / c.check_rate),
    )
    yield Row(
        "rebuild, all of it",
        "the sum of the above",
        lambda n: duration(n * alone + n / (8 * gpu_rate(gpu))),
    )
    yield Row(
        "encoding 1 in 1,000 papers that changed, 2 cores",
        "n / 1,000 / cpu_rate",
        lambda n: duration(n / 1000 / c.cpu_rate),
    )
    yield Row(
        "the same on one A100 (estimate)",
        "n / 1,000 / rate",
        lambda n: duration(n / 1000 / gpu_rate(gpu)),
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures(title: str, rows: Sequence[Row]) -> str:
    body = [[r.figure, r.formula, *(r.value(n) for n in CORPORA.values())] for r in rows]
    return f"## {title}\n\n" + table(["", "formula (n papers)", *CORPORA], body)


def report() -> str:
    """All tables, as Markdown."""
    known = [[f"`{name}`", number(k.value), k.unit, k.origin] for name, k in CONSTANTS.items()]
    cards = [
        [
            name,
            f"{gpu.flops / TB:,.0f} TFLOP/s",
            f"{gpu.memory / GB:.0f} GB",
            f"{gpu.bandwidth / GB:,.0f} GB/s",
            f"${gpu.price:.2f} an hour",
            f"{number(gpu_rate(gpu))} papers a second",
            f"{number(gpu_rate(gpu) * c.tokenise_us * 1e-6)}",
        ]
        for name, gpu in GPUS.items()
    ]
    return "\n\n".join(
        (
            "## Constants\n\n" + table(["constant", "value", "unit", "where from"], known),
            table(
                [
                    "GPU",
                    "bf16 peak",
                    "memory",
                    "bandwidth",
                    "price (assumed)",
                    "rate (estimate)",
                    "cores that tokenise",
                ],
                cards,
            ),
            figures("Bytes and machines", BYTES),
            figures("Encoding", list(encoding())),
            figures("A query", list(searching())),
            figures("Rebuild and update", list(windows())),
        )
    )


def with_tables(document: str) -> str:
    """The document with its tables computed anew."""
    before, _, rest = document.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{report()}\n\n{END}{after}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        path.write_text(with_tables(path.read_text("utf-8")), "utf-8")
    else:
        print(report())
