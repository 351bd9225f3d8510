"""What the HTTP API takes and gives: its requests with their limits, its answers, with examples."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from data.clean import text
from data.contexts import MAX_QUERY
from data.filter import Filter
from data.paper import Paper

MAX_BATCH = 100
MAX_CONTEXTS = 500  # of a batch, whose texts may have several marks each
MAX_K = 100


class Problem(BaseModel):
    """Why a request was refused, in one line."""

    detail: str


Year = Annotated[int, Field(ge=1, le=9999)]
Names = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=50)]


class Kept(BaseModel):
    """Which papers may be found: of any of the categories, by any of the authors, of these years."""

    model_config = ConfigDict(extra="forbid")
    categories: Names = Field([], description="cs keeps cs.CL too")
    since: Year | None = Field(None, description="First out in this year or later")
    until: Year | None = Field(None, description="First out in this year or earlier")
    authors: Names = Field([], description="Family name, or with given names or initials before it")

    def filter(self) -> Filter:
        """The same as a Filter. Raises UserError for an author without a letter."""
        return Filter(tuple(self.categories), self.since, self.until, tuple(self.authors))


class DraftText(BaseModel):
    """What is being written: it helps to rank."""

    model_config = ConfigDict(extra="forbid")
    title: Annotated[str, Field(max_length=1000)] = ""
    abstract: Annotated[str, Field(max_length=MAX_QUERY)] = ""

    def paper(self) -> Paper | None:
        """The same as a Paper."""
        title, abstract = text(self.title), text(self.abstract)
        return Paper("", title, abstract) if title or abstract else None


class Asked(Kept):
    """What every search may say."""

    draft: DraftText = Field(DraftText(), description="The title and abstract of what is being written")
    k: Annotated[int, Field(ge=1, le=MAX_K)] | None = Field(None, description="Papers to list")
    ranking: Literal["best", "hybrid", "dense", "bm25"] | None = Field(None, description="How to rank them")


Text = Annotated[str, Field(min_length=1, max_length=MAX_QUERY)]
PaperId = Annotated[str, Field(min_length=1, max_length=300)]
SENTENCE = "Residual connections [CITE] make very deep networks trainable."


class SearchRequest(Asked):
    """A text with a [CITE] where the citation belongs; without one all of it is the query."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": SENTENCE, "k": 5}]})
    text: Text


class BatchRequest(Asked):
    """Several such texts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": [SENTENCE], "k": 5}]})
    texts: Annotated[list[Text], Field(min_length=1, max_length=MAX_BATCH)]


class SimilarRequest(Kept):
    """The paper whose neighbours are wanted."""

    id: PaperId = Field(description="The paper's id", examples=["arxiv:1512.03385"])
    k: Annotated[int, Field(ge=1, le=MAX_K)] | None = Field(None, description="Papers to list")


class CiteRequest(BaseModel):
    """The papers whose entries are wanted."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ids": ["arxiv:1512.03385"]}]})
    ids: Annotated[list[PaperId], Field(min_length=1, max_length=MAX_BATCH)]


class PaperRecord(BaseModel):
    """A record of the corpus, and its address where it has one."""

    model_config = ConfigDict(extra="allow")
    paper_id: str
    title: str
    abstract: str
    authors: list[str]
    year: int | None
    categories: list[str]
    venue: str
    doi: str
    version: int
    url: str | None


class CitedLike(BaseModel):
    """A sentence by which another paper cites it."""

    citing_id: str
    text: str


class FoundPaper(PaperRecord):
    """A paper found: the score orders the hits of a context, the others are what it comes from.

    probability is that of being the cited paper, cited how many citations the index knows.
    """

    rank: int
    score: float
    dense: float | None
    bm25: float | None
    profile: float | None
    probability: float | None
    cited: int
    cited_like: list[CitedLike]


class ContextAnswer(BaseModel):
    """The papers for one mark of the text, and whether none of them is likely to be the one."""

    text: str
    nothing_fits: bool
    hits: list[FoundPaper]


class SearchAnswer(BaseModel):
    """The answers of a text, one for each of its marks."""

    contexts: list[ContextAnswer]


class BatchAnswer(BaseModel):
    """The answers of every text, in their order."""

    answers: list[SearchAnswer]


class SimilarAnswer(BaseModel):
    """The papers nearest to a paper, itself left out."""

    paper_id: str
    hits: list[FoundPaper]


class CiteEntry(BaseModel):
    """One BibTeX entry and its key."""

    paper_id: str
    key: str
    bibtex: str


class CiteAnswer(BaseModel):
    """The entries in the order of the ids."""

    entries: list[CiteEntry]


class Health(BaseModel):
    """That the server answers, and from what."""

    status: Literal["ok"]
    version: str
    papers: int
    generation: str
