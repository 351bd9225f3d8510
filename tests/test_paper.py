"""The Paper record: its link, its digest and its way through Arrow."""

import re
from dataclasses import replace
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.paper import SCHEMA, Paper, from_rows, to_batch

PAPER = Paper(
    "arxiv:1706.03762", "Attention", "An abstract.", ("A B", "C D"), 2017, ("cs.CL",), "NIPS", "10.1/x", 5
)
SAFE_URL = re.compile(
    r"https://(arxiv\.org/abs|aclanthology\.org|doi\.org)/[A-Za-z0-9.:;/_%~-]+"  # nothing that markup reads
)


@pytest.mark.parametrize(
    ("paper_id", "url"),
    [
        ("arxiv:1706.03762", "https://arxiv.org/abs/1706.03762"),
        ("arxiv:hep-th/9901001", "https://arxiv.org/abs/hep-th/9901001"),
        ("arxiv:math.GT/0309136", "https://arxiv.org/abs/math.GT/0309136"),
        ("acl:N19-1423", "https://aclanthology.org/N19-1423/"),
        ("acl:2020.acl-main.703", "https://aclanthology.org/2020.acl-main.703/"),
        ("doi:10.1162/neco.1997.9.8.1735", "https://doi.org/10.1162/neco.1997.9.8.1735"),
        ("doi:10.1016/0364-0213(90)90002-E", "https://doi.org/10.1016/0364-0213%2890%2990002-E"),
        (
            "doi:10.1002/(SICI)1097-4571(199009)41:6<391::AID-ASI1>3.0.CO;2-9",
            "https://doi.org/10.1002/%28SICI%291097-4571%28199009%2941:6%3C391::AID-ASI1%3E3.0.CO;2-9",
        ),
    ],
)
def test_known_schemes_link_to_their_paper(paper_id: str, url: str) -> None:
    assert Paper(paper_id, "T").url == url


@pytest.mark.parametrize(
    "paper_id",
    [
        "javascript:alert(1)",
        "arxiv:javascript:alert(1)",
        "arxiv:1706.03762\n",
        "arxiv:1706.03762) [x](http://evil.example",
        "arxiv:1706.0376٢",  # a digit, but not one of arXiv's
        "arxiv:../../evil",
        "acl:N19-1423/../../x",
        'acl:N19"onclick=',
        "acl:" + "x" * 100,
        "doi:10.1000/a b",
        "doi:10.1000/a'b",
        'doi:10.1000/a"b',
        "doi:10.1000/`x`",
        "doi:10.1000/a\\b",
        "doi:10.1000/{x}",
        "doi:10.1000/\u202eevil",
        "doi:http://evil.example",
        "http://evil.example",
        "h:0123456789abcdef",
        "bib:vaswani2017",
        "",
    ],
)
def test_what_is_no_valid_identifier_links_nowhere(paper_id: str) -> None:
    assert Paper(paper_id, "T").url is None


def test_a_doi_links_where_the_id_does_not() -> None:
    assert Paper("x1", "T", doi="10.1000/ok").url == "https://doi.org/10.1000/ok"
    assert Paper("x1", "T", doi="javascript:alert(1)").url is None


@settings(deadline=None)
@given(
    st.sampled_from(["", "arxiv:", "acl:", "doi:", "doi:10.1000/", "acl:N19-", "arxiv:1706.03762"]),
    st.text(),
    st.text() | st.text().map(lambda t: "10.1000/" + t),
)
def test_no_text_makes_an_unsafe_link(scheme: str, name: str, doi: str) -> None:
    url = Paper(scheme + name, "T", doi=doi).url
    if url is not None:
        assert SAFE_URL.fullmatch(url)
        assert urlsplit(url).netloc in ("arxiv.org", "aclanthology.org", "doi.org")


def test_the_digest_tells_every_field_but_the_version() -> None:
    changed = [
        replace(PAPER, paper_id="x"),
        replace(PAPER, title="x"),
        replace(PAPER, abstract="x"),
        replace(PAPER, authors=("A B",)),
        replace(PAPER, authors=("A B", "C D", "cs.CL"), categories=()),
        replace(PAPER, year=None),
        replace(PAPER, categories=("cs.CL", "cs.LG")),
        replace(PAPER, venue="x"),
        replace(PAPER, doi="x"),
    ]
    assert len({paper.content_hash() for paper in [PAPER, *changed]}) == len(changed) + 1
    assert replace(PAPER, version=6).content_hash() == PAPER.content_hash()


def test_papers_survive_arrow() -> None:
    papers = [PAPER, Paper("x", "T"), replace(PAPER, year=None, authors=())]
    batch = to_batch(papers)
    assert batch.schema == SCHEMA
    assert from_rows(batch) == papers
    assert from_rows(pa.Table.from_batches([batch])) == papers
    assert from_rows(to_batch([])) == []
