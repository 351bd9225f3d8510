"""The MCP server: a writing agent asks for papers to cite, and gets only records that exist."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from anyio import to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations
from pydantic import Field
from starlette.types import ASGIApp

from data.contexts import CITE, MAX_QUERY, parse, unmarked
from data.errors import UserError
from data.paper import Paper
from data.release import release
from indexer.answers import answer, entries
from indexer.api_schema import (
    MAX_BATCH,
    CiteAnswer,
    ContextAnswer,
    Kept,
    Names,
    PaperId,
    SearchAnswer,
    Year,
)
from indexer.guard import LOOPBACK, MAX_BODY, Guard
from indexer.search import Searcher, UnknownPaper

T = TypeVar("T")
INSTRUCTIONS = (
    "Citemark searches the user's own corpus of papers. Cite only papers that these tools return, by the "
    "keys of get_bibtex; where no hit fits the sentence, say so and cite nothing."
)
READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
Query = Annotated[str, Field(min_length=1, max_length=MAX_QUERY)]
Count = Annotated[int, Field(ge=1, le=50, description="Papers to list")]
Since = Annotated[Year | None, Field(description="Only papers of this year or later")]
Until = Annotated[Year | None, Field(description="Only papers of this year or earlier")]
Categories = Annotated[Names, Field(description="Only papers of any of these categories; cs has cs.CL too")]
Authors = Annotated[Names, Field(description="Only papers by any of these, family or full names")]


def create_server(searcher: Searcher) -> MCPServer:
    """The server with its three tools over a Searcher."""
    server: MCPServer = MCPServer(
        "citemark",
        title="Citemark",
        description="Finds the paper to cite in a corpus of your own.",
        instructions=INSTRUCTIONS,
        version=release(),
        log_level="WARNING",
    )

    @server.tool(annotations=READS)
    async def suggest_citations(
        text: Annotated[Query, Field(description=f"One or more sentences, {CITE} where a citation belongs")],
        k: Count = 5,
        since: Since = None,
        until: Until = None,
        categories: Categories = [],  # noqa: B006  # it becomes the schema's default
        authors: Authors = [],  # noqa: B006
    ) -> SearchAnswer:
        """The papers to cite at each [CITE] of a text, best first."""
        kept = Kept(categories=categories, since=since, until=until, authors=authors)
        return await _asked(lambda: _search(searcher, text, k, kept))

    @server.tool(annotations=READS)
    async def find_papers(
        query: Annotated[Query, Field(description="What the papers are about, or words of a title")],
        k: Count = 10,
        since: Since = None,
        until: Until = None,
        categories: Categories = [],  # noqa: B006
        authors: Authors = [],  # noqa: B006
    ) -> ContextAnswer:
        """Papers of the corpus about a subject, best first."""
        plain = unmarked(query)
        kept = Kept(categories=categories, since=since, until=until, authors=authors)
        return (await _asked(lambda: _search(searcher, plain, k, kept))).contexts[0]

    @server.tool(annotations=READS)
    async def get_bibtex(
        paper_ids: Annotated[
            list[PaperId],
            Field(min_length=1, max_length=MAX_BATCH, description="Ids of papers that the other tools found"),
        ],
    ) -> CiteAnswer:
        """The BibTeX entries and citation keys of papers, from their records; unknown ids are an error."""
        return await _asked(lambda: _cited(searcher, paper_ids))

    return server


def _search(searcher: Searcher, text: str, k: int, kept: Kept) -> SearchAnswer:
    contexts = parse(text)
    found = searcher.search(contexts, k, keep=kept.filter())
    return SearchAnswer.model_validate(answer(searcher, contexts, found))


def _cited(searcher: Searcher, ids: list[str]) -> CiteAnswer:
    found: list[Paper] = []
    unknown: list[str] = []
    for paper_id in ids:
        try:
            found.append(searcher.paper(paper_id))
        except UnknownPaper:
            unknown.append(paper_id)
    if unknown:
        raise UserError(
            f"no paper of the corpus has the id {', '.join(unknown)}; take the paper_id of a search's hit"
        )
    return CiteAnswer.model_validate({"entries": entries(found)})


async def _asked(work: Callable[[], T]) -> T:
    """The work's result; what the user can mend is told to the agent."""
    try:
        return await to_thread.run_sync(work)
    except UserError as error:
        raise ToolError(str(error)) from None


def http_app(server: MCPServer, host: str, token: str) -> ASGIApp:
    """The server over streamable HTTP at /mcp, behind the same guard as the HTTP API."""
    app = server.streamable_http_app(
        stateless_http=True,
        json_response=True,
        max_request_body_size=MAX_BODY,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the Guard's
    )
    return Guard(app, [*LOOPBACK, host], token)
