"""The HTTP API over one Searcher: search, batch, paper, similar, cite, health and metrics.

It binds to the loopback address unless told otherwise, answers only requests that name it as their
host and come from no other site, and refuses what is too large or too much before it costs anything.
A newer index is taken up by itself; requests under way finish on the one they began with.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException as StarletteHTTPException

from data.contexts import Context, parse
from data.errors import UserError
from data.release import release
from indexer.answers import answer, entries, record
from indexer.api_schema import (
    MAX_CONTEXTS,
    Asked,
    BatchAnswer,
    BatchRequest,
    CiteAnswer,
    CiteRequest,
    Health,
    PaperId,
    PaperRecord,
    Problem,
    SearchAnswer,
    SearchRequest,
    SimilarAnswer,
    SimilarRequest,
)
from indexer.guard import LOOPBACK, MAX_BODY, QUEUE, WORKERS, Busy, Gate, Guard, open_to_others, problem
from indexer.search import Searcher, UnknownPaper

RELOAD_SECONDS = 1.0  # between looks for a newer index

log = logging.getLogger("indexer.serve")
T = TypeVar("T")


@dataclass(frozen=True)
class ServeSettings:
    """Where the API listens, who may ask and how much at once.

    `workers` searches run at a time and `queue` requests, those included, may be waiting for them.
    """

    host: str = "127.0.0.1"
    port: int = 8600
    token: str = ""
    workers: int = WORKERS
    queue: int = QUEUE
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        open_to_others(self.host, self.token)
        if not 1 <= self.workers <= self.queue:
            raise UserError(
                f"workers is {self.workers}, queue is {self.queue}: 1 <= workers <= queue is needed"
            )

    @property
    def hosts(self) -> list[str]:
        """The names under which a request may address the server."""
        return [*LOOPBACK, self.host, *self.names]


class Door:
    """What the requests share: the Searcher, the gate before it and the counters."""

    def __init__(self, searcher: Searcher, settings: ServeSettings) -> None:
        self.searcher, self.settings = searcher, settings
        self.gate = Gate(settings.workers, settings.queue)
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "citemark_requests_total", "Requests answered", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "citemark_request_seconds", "Seconds to answer", ["path"], registry=self.registry
        )
        for name, text, value in (
            ("citemark_pending_requests", "Requests that wait or run", lambda: self.gate.pending),
            ("citemark_papers", "Papers in the index", lambda: searcher.snapshot.manifest.papers),
            ("citemark_generation", "Number of the index's generation", lambda: int(self.generation)),
        ):
            Gauge(name, text, registry=self.registry).set_function(value)

    @property
    def generation(self) -> str:
        """The number of the generation that answers."""
        return self.searcher.snapshot.path.name

    def count(self, path: str, status: int, seconds: float) -> None:
        """Note an answer for the metrics."""
        self.requests.labels(path, status).inc()
        self.seconds.labels(path).observe(seconds)

    def warm(self) -> None:
        """Load index and encoder, so that the first request waits for neither."""
        self.searcher.snapshot.load()
        self.searcher.search([Context("warm up")], 1)

    async def follow(self) -> None:
        """Take up every newer index; one that cannot be used is named in the log, and the old one stays."""
        fault = ""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            before = self.generation
            try:
                await asyncio.to_thread(self.searcher.reload)
            except UserError as error:
                if str(error) != fault:
                    fault = str(error)
                    log.error("generation %s goes on answering: %s", before, fault)
            if self.generation != before:
                log.warning("generation %s answers now", self.generation)


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of an operation, for its OpenAPI description."""
    meanings = {
        400: "No valid JSON, or a foreign Host",
        401: "The token is missing or wrong",
        403: "A request from another site",
        404: "No such paper",
        413: f"More than {MAX_BODY:,} bytes",
        422: "A value that cannot be searched",
        429: "Busy: come again after Retry-After seconds",
        503: "The index cannot be used",
    }
    answers: dict[int | str, dict[str, Any]] = {
        code: {"model": Problem, "description": meanings[code]} for code in (400, 401, 403, *codes)
    }
    if 429 in answers:
        header = {"description": "Seconds to wait", "schema": {"type": "integer"}}
        answers[429]["headers"] = {"Retry-After": header}
    return answers


def _door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


DoorOf = Annotated[Door, Depends(_door)]
IdOf = Annotated[PaperId, Query(alias="id", examples=["arxiv:1512.03385"], description="The paper's id")]
router = APIRouter()


@router.post("/search", responses=_problems(413, 422, 429, 503))
async def search(asked: SearchRequest, door: DoorOf) -> SearchAnswer:
    """The papers to cite for each [CITE] of a text."""
    contexts = parse(asked.text)
    return (await _answers(door, [contexts], asked))[0]


@router.post("/batch", responses=_problems(413, 422, 429, 503))
async def batch(asked: BatchRequest, door: DoorOf) -> BatchAnswer:
    """The same for several texts at once."""
    texts = [parse(text) for text in asked.texts]
    marks = sum(map(len, texts))
    if marks > MAX_CONTEXTS:
        raise HTTPException(
            422, f"body.texts: {marks:,} contexts, the limit is {MAX_CONTEXTS}; send fewer texts at a time"
        )
    return BatchAnswer(answers=await _answers(door, texts, asked))


async def _answers(door: Door, texts: Sequence[Sequence[Context]], asked: Asked) -> list[SearchAnswer]:
    keep = asked.filter()

    def work() -> list[SearchAnswer]:
        every = [context for contexts in texts for context in contexts]
        found = iter(door.searcher.search(every, asked.k, asked.ranking, keep, asked.draft.paper()))
        return [
            SearchAnswer.model_validate(answer(door.searcher, contexts, [next(found) for _ in contexts]))
            for contexts in texts
        ]

    return await _searched(door, work)


@router.get("/paper", responses=_problems(404, 422, 429, 503))
async def paper(paper_id: IdOf, door: DoorOf) -> PaperRecord:
    """The record of a paper."""
    found = await _searched(door, lambda: door.searcher.paper(paper_id))
    return PaperRecord.model_validate(record(found))


@router.get("/similar", responses=_problems(404, 422, 429, 503))
async def similar(asked: Annotated[SimilarRequest, Query()], door: DoorOf) -> SimilarAnswer:
    """The papers whose vectors are nearest to a paper's."""
    keep = asked.filter()
    hits = await _searched(door, lambda: door.searcher.similar(asked.id, asked.k, keep))
    return SimilarAnswer.model_validate({"paper_id": asked.id, "hits": [hit.as_dict() for hit in hits]})


@router.post("/cite", responses=_problems(404, 413, 422, 429, 503))
async def cite(asked: CiteRequest, door: DoorOf) -> CiteAnswer:
    """The BibTeX entries of papers, from their records alone."""
    papers = await _searched(door, lambda: [door.searcher.paper(i) for i in asked.ids])
    return CiteAnswer.model_validate({"entries": entries(papers)})


@router.get("/health", responses=_problems())
async def health(door: DoorOf) -> Health:
    """Whether the server answers, and from which index. Needs no token."""
    papers = door.searcher.snapshot.manifest.papers
    return Health(status="ok", version=release(), papers=papers, generation=door.generation)


@router.get(
    "/metrics", responses={**_problems(), 200: {"content": {"text/plain": {}}}}, response_class=Response
)
async def metrics(door: DoorOf) -> Response:
    """Counters and times in the text format of Prometheus."""
    return Response(generate_latest(door.registry), media_type=CONTENT_TYPE_LATEST)


async def _searched(door: Door, work: Callable[[], T]) -> T:
    """The work's result; a fault of the index goes to the log, not to the client."""
    try:
        return await door.gate.run(work)
    except UnknownPaper:
        raise HTTPException(404, "no paper with this id in the index") from None
    except Busy:
        raise
    except UserError as error:
        log.error("%s", error)
        raise HTTPException(503, "the index cannot be used at present; its server's log says why") from None


async def _explain(_: Request, error: Exception) -> JSONResponse:
    """A refusal as one line that names no internals."""
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, Busy):
        return problem(429, str(error), {"Retry-After": str(error.seconds)})
    if isinstance(error, UserError):  # of data.contexts.parse: the text itself
        return problem(422, str(error))
    if isinstance(error, StarletteHTTPException):
        return problem(error.status_code, str(error.detail), error.headers)
    return problem(500, "the server failed; its log says why")


def _invalid(error: RequestValidationError) -> JSONResponse:
    """Where and why, without the value: it may be large, and it may be no valid Unicode."""
    faults = error.errors()
    status = 400 if any(fault["type"] == "json_invalid" for fault in faults) else 422
    lines = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:3]]
    return problem(status, "; ".join(lines).encode("utf-8", "replace").decode()[:500])


def create_app(searcher: Searcher, settings: ServeSettings) -> FastAPI:
    """The API over a Searcher that does not follow by itself (`follow=False`)."""
    door = Door(searcher, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(door.warm)
        following = asyncio.create_task(door.follow())
        yield
        following.cancel()
        door.gate.close()

    app = FastAPI(
        title="Citemark",
        description="Finds the paper to cite: a sentence with [CITE] in, ranked papers of your corpus out.",
        version=release(),
        lifespan=lifespan,
        docs_url=None,  # their pages would fetch scripts from elsewhere
        redoc_url=None,
    )
    app.state.door = door
    app.include_router(router)
    for kind in (RequestValidationError, UserError, Busy, StarletteHTTPException, Exception):
        app.add_exception_handler(kind, _explain)
    app.add_middleware(Guard, hosts=settings.hosts, token=settings.token, answered=door.count)
    if settings.token:
        _describe_token(app)
    return app


def _describe_token(app: FastAPI) -> None:
    """Say in the OpenAPI description that a token is needed."""
    described = app.openapi()
    described.setdefault("components", {})["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"}
    }
    described["security"] = [{"token": []}]
