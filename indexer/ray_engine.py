"""The cluster engine of a build: Ray Data reads the papers here and encodes them on the cluster's actors.

The papers flow from this machine's table to a pool of actors, each of which has loaded the encoder once and
writes whole shards into the folder; only their names come back. An actor or a machine that dies costs the
shards it was at: Ray gives them to another. What is written is what `indexer.shards.encode_shard` gives, as
in a build without a cluster.
"""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from data.errors import UserError, first_line
from data.paper import SCHEMA, from_rows, to_batch
from data.table import PaperTable
from indexer.shards import Folder, Slice, encode_shard
from model.encoder import Encoder

LOCAL = "local"  # the address of a cluster that is started on this machine, for this build alone
LOOPBACK = ("127.0.0.1:", "localhost:")
PATIENCE = 10.0  # seconds for a cluster to answer
BLOCKS = 10_000  # tasks that Ray keeps account of at a time; of more shards, each has several


@contextlib.contextmanager
def cluster(address: str = LOCAL, device: str = "auto", workers: int | None = None) -> Iterator["Cluster"]:
    """Join the cluster at `address` (host:port, or `auto` for the one of this machine), or start one here.

    `device` is where its actors compute: `cuda` takes a GPU each, `cpu` a core each, `auto` GPUs if the
    cluster has any. `workers` is their number, by default as many as there are GPUs or cores.

    Raises UserError where Ray is not installed, the cluster does not answer or has no GPU for `cuda`.
    """
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells of dead workers there, where results belong
        ray = _connect(address)
        try:
            yield _joined(ray, address, device, workers)
        finally:
            ray.shutdown()


def _joined(ray: Any, address: str, device: str, workers: int | None) -> "Cluster":
    resources = ray.cluster_resources()
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    if device == "cuda" and not gpus:
        raise UserError(f"device is cuda, but the Ray cluster at {address} has 0 GPUs; use --device cpu")
    device = ("cuda" if gpus else "cpu") if device == "auto" else device
    return Cluster(device, workers or (gpus if device == "cuda" else cores) or 1)


def _connect(address: str) -> Any:
    if address.startswith("ray://"):
        raise UserError(
            f"--address {address}: a build reads its papers on a machine of the cluster; run it there, "
            "with --address auto"
        )
    if ":" in address:
        _reach(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray would report to its makers
    if address == LOCAL or address.startswith(LOOPBACK):
        # So Ray listens, and looks for others, on the loopback alone; it is read as Ray is imported.
        # `_node_ip_address` does not do it: of 127.0.0.1 Ray makes the machine's own address.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError("--engine ray needs Ray; install it with: pip install 'citemark[ray]'") from error
    own = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except Exception as error:  # of a node that does not start, Ray raises a bare one
        raise UserError(f"--address {address}: no Ray cluster can be joined ({first_line(error)})") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return ray


def _reach(address: str) -> None:
    """Raise UserError where nothing listens: Ray itself takes minutes to find out."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(
            f"--address {address}: nothing answers ({first_line(error)}); give HOST:PORT of a cluster that "
            "`ray start --head` started, or leave it out for one of this machine alone"
        ) from error


@dataclass(frozen=True)
class Cluster:
    """A joined cluster, an indexer.shards.Engine: so many actors on the device `cuda` or `cpu`."""

    device: str
    workers: int

    def precision(self, encoder: Encoder) -> str:
        """Of the actors: on the build's own kind of device the encoder's, on GPUs elsewhere bf16."""
        return f"{self._number_form(encoder)} on {self.device}"

    def _number_form(self, encoder: Encoder) -> str:
        return encoder.precision if encoder.device == self.device else "bf16"

    def encode(
        self,
        papers: PaperTable,
        missing: Sequence[Slice],
        encoder: Encoder,
        folder: Folder,
        told: Callable[[int], None],
    ) -> Iterator[tuple[Slice, str]]:
        import ray
        from ray.data import ActorPoolStrategy, TaskPoolStrategy

        if not missing:
            return
        by_key = {shard.key: shard for shard in missing}
        workers = min(self.workers, len(missing))
        shards = (
            ray.data.from_items([s._asdict() for s in missing], override_num_blocks=min(len(missing), BLOCKS))
            .map(
                _read,
                fn_kwargs={"table": str(papers.path.resolve())},
                compute=TaskPoolStrategy(size=2),
                num_cpus=0,  # unlike the actors, so that Ray does not fuse the two: the table is only here
                label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
            )
            .map(
                _Worker,
                fn_constructor_args=(
                    (encoder.name, self.device, self._number_form(encoder)),
                    encoder.fingerprint,
                    folder.url,
                ),
                compute=ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
                **({"num_gpus": 1} if self.device == "cuda" else {"num_cpus": 1}),
            )
        )
        try:
            for row in shards.iter_rows():
                if row["fault"]:
                    raise UserError(row["fault"])
                yield by_key[row["key"]], row["name"]
        except ray.exceptions.RayError as error:
            reason = first_line(getattr(error, "cause", None) or error)
            raise UserError(
                f"the Ray cluster gave up ({reason}); run the same command again, finished shards are kept"
            ) from error


def _read(row: Mapping[str, Any], table: str) -> dict[str, Any]:
    """A shard's papers, on the machine that has the table."""
    batch = to_batch(_table(table).slice(row["start"], row["stop"]))
    return {"key": row["key"], "papers": batch.serialize().to_pybytes()}


@lru_cache(1)
def _table(path: str) -> PaperTable:
    return PaperTable(Path(path))


class _Worker:
    """An actor: the encoder, loaded once, and the folder. What the user can mend comes back as `fault`."""

    def __init__(self, encoder: tuple[str, str, str], fingerprint: str, url: str) -> None:
        self._fault = ""
        try:
            self._folder = Folder(url, make=False)
            self._encoder = Encoder(*encoder)
            if self._encoder.fingerprint != fingerprint:
                raise UserError(
                    f"the encoder {encoder[0]} has fingerprint {self._encoder.fingerprint}, the build's has "
                    f"{fingerprint}; install the same model and version of Citemark on every machine"
                )
        except UserError as error:
            self._fault = self._said(error)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, str]:
        name, fault = "", self._fault
        if not fault:
            members = from_rows(pa.ipc.read_record_batch(pa.py_buffer(row["papers"]), SCHEMA))
            try:
                name = self._folder.write(row["key"], encode_shard(members, self._encoder))
            except (UserError, OSError) as error:
                fault = self._said(error)
        return {"key": row["key"], "name": name, "fault": fault}

    def _said(self, error: Exception) -> str:
        return f"the worker on {socket.gethostname()}: {error}"
