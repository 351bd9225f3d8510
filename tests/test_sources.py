"""The catalogues' own schemas, as their files have them, as papers."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from data import corpus, formats
from data.clean import Rejected, to_paper
from data.corpus import Reading
from data.errors import UserError
from data.filter import Filter
from data.identifiers import acl_id, arxiv_id, arxiv_year, doi_in, paper_id
from data.openalex import abstract
from data.paper import Paper
from data.table import PaperTable

WORK: dict[str, Any] = {
    "id": "https://openalex.org/W2963403868",
    "doi": "https://doi.org/10.48550/arxiv.1706.03762",
    "title": "Attention Is All <i>You</i> Need",
    "display_name": "Attention Is All <i>You</i> Need",
    "publication_year": 2017,
    "publication_date": "2017-06-12",
    "ids": {"openalex": "https://openalex.org/W2963403868", "mag": "2963403868"},
    "language": "en",
    "primary_location": {
        "is_oa": True,
        "landing_page_url": "https://arxiv.org/abs/1706.03762",
        "source": {"id": "https://openalex.org/S4306400194", "display_name": "arXiv (Cornell University)"},
    },
    "type": "preprint",
    "authorships": [
        {"author_position": "first", "author": {"id": "A1", "display_name": "Ashish Vaswani"}},
        {"author_position": "last", "author": {}, "raw_author_name": "Illia Polosukhin"},
    ],
    "topics": [
        {
            "id": "https://openalex.org/T10181",
            "display_name": "Natural Language Processing Techniques",
            "score": 0.99,
            "subfield": {
                "id": "https://openalex.org/subfields/1702",
                "display_name": "Artificial Intelligence",
            },
            "field": {"id": "https://openalex.org/fields/17", "display_name": "Computer Science"},
            "domain": {"id": "https://openalex.org/domains/3", "display_name": "Physical Sciences"},
        },
        {"subfield": {"display_name": "Signal Processing"}, "field": {"display_name": "Computer Science"}},
    ],
    "abstract_inverted_index": {"The": [0, 6], "dominant": [1], "models": [2, 5], "beat": [3], "other": [4]},
    "referenced_works": ["https://openalex.org/W1"],
}
PAPER_S2: dict[str, Any] = {
    "corpusid": 13756489,
    "externalids": {
        "ACL": None,
        "DBLP": "conf/nips/VaswaniSPUJGKP17",
        "ArXiv": "1706.03762",
        "MAG": "2963403868",
        "CorpusId": "13756489",
        "PubMed": None,
        "DOI": None,
        "PubMedCentral": None,
    },
    "url": "https://www.semanticscholar.org/paper/204e",
    "title": "Attention is All you Need",
    "authors": [
        {"authorId": "40348417", "name": "Ashish Vaswani"},
        {"authorId": "1", "name": "Noam Shazeer"},
    ],
    "venue": "Neural Information Processing Systems",
    "publicationvenueid": None,
    "year": 2017,
    "referencecount": 42,
    "citationcount": 100000,
    "s2fieldsofstudy": [
        {"category": "Computer Science", "source": "external"},
        {"category": "Computer Science", "source": "s2-fos-model"},
    ],
    "publicationtypes": ["JournalArticle"],
    "publicationdate": "2017-06-12",
    "journal": {"name": None, "pages": "5998-6008", "volume": None},
}
ANTHOLOGY = """<?xml version='1.0' encoding='UTF-8'?>
<collection id="P17">
  <volume id="1" ingest-date="2019-09-06">
    <meta>
      <booktitle>Proceedings of the 55th Annual Meeting of the <fixed-case>ACL</fixed-case></booktitle>
      <editor><first>Regina</first><last>Barzilay</last></editor>
      <year>2017</year>
    </meta>
    <frontmatter><url hash="98c03a38">P17-1000</url></frontmatter>
    <paper id="1">
      <title>Adversarial Multi-task Learning for
        <fixed-case>T</fixed-case>ext with <tex-math>O(n^2)</tex-math> Steps</title>
      <author><first>Pengfei</first><last>Liu</last></author>
      <author><last>Plato</last></author>
      <abstract>Neural <b>models</b> share <i>features</i>; see <url>http://x.org</url>.</abstract>
      <url hash="1">P17-1001</url>
      <doi>10.18653/v1/P17-1001</doi>
      <bibkey>liu-etal-2017-adversarial</bibkey>
    </paper>
    <paper id="23"><title>No address, no abstract</title>
      <author><first>A.</first><last>B</last></author></paper>
  </volume>
</collection>
"""


def read(source: Path, **options: Any) -> tuple[list[Paper], Reading]:
    table = source.parent / "papers.arrow"
    reading = corpus.write(str(source), table, Filter(), **options)
    return list(PaperTable(table)), reading


def lines(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


# Identifiers


def test_one_paper_has_one_id_from_all_sources() -> None:
    spellings: list[dict[str, Any]] = [
        {"arxiv": "1706.03762"},
        {"arxiv": "arXiv:1706.03762v5"},
        {"arxiv": "https://arxiv.org/pdf/1706.03762v1", "doi": "10.1/x"},
        {"doi": "https://doi.org/10.48550/arXiv.1706.03762", "other": "openalex:W1"},
    ]
    assert {paper_id(**spelling) for spelling in spellings} == {"arxiv:1706.03762"}
    assert paper_id(doi="10.18653/v1/P17-1001") == paper_id(acl="P17-1001") == "acl:P17-1001"
    assert paper_id(acl="https://aclanthology.org/2020.acl-main.1/") == "acl:2020.acl-main.1"
    assert paper_id(doi="doi: 10.1016/J.Cell") == "doi:10.1016/J.Cell"
    assert paper_id(other="s2:7") == "s2:7"


def test_what_is_no_identifier_gives_none() -> None:
    assert arxiv_id("10.1234/1706.03762") == ""
    assert arxiv_id("hep-th/9901001v2") == "hep-th/9901001"
    assert arxiv_id(17) == acl_id(None) == doi_in(17) == ""
    assert acl_id("A paper of P17-1001 and more") == ""
    assert [arxiv_year(n) for n in ("1706.03762", "hep-th/9901001", "0704.0001", "x")] == [
        2017,
        1999,
        2007,
        None,
    ]


# OpenAlex


def test_an_openalex_work_is_a_paper_with_its_abstract_in_order() -> None:
    assert to_paper(WORK) == Paper(
        "arxiv:1706.03762",
        "Attention Is All You Need",
        "The dominant models beat other models The",
        ("Ashish Vaswani", "Illia Polosukhin"),
        2017,
        ("Computer Science", "Artificial Intelligence", "Signal Processing"),
        "arXiv (Cornell University)",
        "10.48550/arxiv.1706.03762",
    )


def test_an_openalex_work_has_the_arxiv_number_of_any_location_else_its_doi_else_its_own() -> None:
    location = {"landing_page_url": "http://arxiv.org/abs/2001.00001v3"}
    work = WORK | {"doi": "https://doi.org/10.1007/s1", "primary_location": None}
    assert to_paper(work | {"locations": [location]}).paper_id == "arxiv:2001.00001"
    assert to_paper(work).paper_id == "doi:10.1007/s1"
    assert to_paper(work | {"doi": None}).paper_id == "openalex:W2963403868"


def test_an_openalex_work_may_lack_everything_but_its_title() -> None:
    bare = {"id": "https://openalex.org/W1", "title": "T", "authorships": [], "abstract_inverted_index": None}
    assert to_paper(bare | {"topics": None, "ids": None}) == Paper("openalex:W1", "T")
    with pytest.raises(Rejected, match="no title"):
        to_paper(bare | {"title": None})


def test_a_hostile_inverted_index_costs_nothing() -> None:
    assert abstract({"far": [10**18], "near": [0]}) == "near far"
    for wrong in ("text", ["a"], {"a": 3}, {"a": ["x"]}, {"a": [None]}):
        assert abstract(wrong) == wrong
    with pytest.raises(Rejected, match="abstract: dict, not text"):
        to_paper(WORK | {"abstract_inverted_index": {"a": 3}})


def test_openalex_snapshot_folders_are_read(tmp_path: Path) -> None:
    works = tmp_path / "works"
    lines(works / "updated_date=2024-01-01" / "part_000.gz", [WORK])
    second = WORK | {"id": "W2", "doi": None, "primary_location": None, "title": "Second"}
    lines(works / "updated_date=2024-02-01" / "part_000.gz", [second])
    (works / "manifest").write_text("{}")
    papers, reading = read(works)
    assert [paper.title for paper in papers] == ["Attention Is All You Need", "Second"]
    assert reading.rejected == 0


def test_an_answer_of_the_openalex_api_is_a_corpus(tmp_path: Path) -> None:
    for indent in (None, 2):
        path = tmp_path / "answer.json"
        path.write_text(json.dumps({"meta": {"count": 1}, "results": [WORK]}, indent=indent))
        papers, _ = read(path)
        assert [paper.paper_id for paper in papers] == ["arxiv:1706.03762"]


# Semantic Scholar


def test_a_paper_of_the_semantic_scholar_dump() -> None:
    assert to_paper(PAPER_S2) == Paper(
        "arxiv:1706.03762",
        "Attention is All you Need",
        "",
        ("Ashish Vaswani", "Noam Shazeer"),
        2017,
        ("Computer Science",),
        "Neural Information Processing Systems",
    )
    nameless = PAPER_S2 | {"externalids": {"CorpusId": "13756489"}}
    assert to_paper(nameless).paper_id == "s2:13756489"


def test_the_dumps_papers_and_abstracts_are_joined(tmp_path: Path) -> None:
    other = PAPER_S2 | {"corpusid": 5, "externalids": {"DOI": "10.1000/abc"}, "title": "Without"}
    lines(tmp_path / "s2" / "papers" / "20240101_00001_abc.gz", [PAPER_S2, other])
    abstracts = [
        {"corpusid": 13756489, "openaccessinfo": {"license": None}, "abstract": "We propose."},
        {"corpusid": "bad", "abstract": "x"},
        {"corpusid": 1 << 70, "abstract": "x"},
        "no record",
    ]
    lines(tmp_path / "s2" / "abstracts" / "20240101_00001_def.gz", abstracts)
    seen: list[int] = []
    reading = Reading()
    papers = list(corpus.read(str(tmp_path / "s2"), reading, lambda done, _: seen.append(done)))
    assert [(p.paper_id, p.abstract) for p in papers] == [
        ("arxiv:1706.03762", "We propose."),
        ("doi:10.1000/abc", ""),
    ]
    assert reading.rejected == 0
    assert seen == sorted(seen)
    assert seen[-1] == corpus.size(str(tmp_path / "s2"))


def test_the_graph_api_and_the_old_s2orc_are_known() -> None:
    graph = {
        "paperId": "204e3073870fae3d05bcbc2f6a8e263d9b72e776",
        "corpusId": 13756489,
        "externalIds": {"DOI": "10.18653/v1/2020.acl-main.447", "CorpusId": 215416146},
        "title": "S2ORC",
        "abstract": "A corpus.",
        "s2FieldsOfStudy": [{"category": "Computer Science", "source": "external"}],
        "authors": [{"authorId": "1", "name": "Kyle Lo"}],
        "year": 2020,
        "venue": "ACL",
    }
    assert to_paper(graph).paper_id == "acl:2020.acl-main.447"
    old = {
        "paper_id": "77490025",
        "title": "Old",
        "authors": [{"first": "Ada", "middle": ["B."], "last": "Castro", "suffix": "Jr."}],
        "abstract": "Text.",
        "year": 2011,
        "arxiv_id": None,
        "acl_id": None,
        "doi": None,
        "venue": "",
        "journal": "Journal",
        "mag_field_of_study": ["Medicine"],
    }
    assert to_paper(old) == Paper("s2:77490025", "Old", "Text.", ("Ada B. Castro Jr.",), 2011, ("Medicine",))


def test_s2orc_of_the_datasets_api_has_title_and_abstract_in_its_text() -> None:
    text = "A title\nSome authors\nThe abstract."
    notes = {
        "title": json.dumps([{"start": "0", "end": "7"}]),
        "abstract": json.dumps([{"start": 21, "end": 34}]),
    }
    record = {"corpusid": 3, "externalids": {}, "content": {"text": text, "annotations": notes}}
    assert to_paper(record) == Paper("s2:3", "A title", "The abstract.")
    record["content"] = {"text": None, "annotations": {"title": "{"}}
    with pytest.raises(Rejected, match="no title"):
        to_paper(record)


# The ACL Anthology


def test_an_anthology_collection_is_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "P17.xml"
    path.write_text(ANTHOLOGY, "utf-8")
    papers, reading = read(path)
    assert papers == [
        Paper(
            "acl:P17-1001",
            "Adversarial Multi-task Learning for Text with $O(n^2)$ Steps",
            "Neural models share features; see http://x.org.",
            ("Pengfei Liu", "Plato"),
            2017,
            ("cs.CL",),
            "Proceedings of the 55th Annual Meeting of the ACL",
            "10.18653/v1/P17-1001",
        ),
        Paper(
            "acl:P17-1023",
            "No address, no abstract",
            "",
            ("A. B",),
            2017,
            ("cs.CL",),
            "Proceedings of the 55th Annual Meeting of the ACL",
        ),
    ]
    assert papers[0].url == "https://aclanthology.org/P17-1001/"
    assert reading.read == 2


@pytest.mark.parametrize(
    ("collection", "volume", "paper", "expected"),
    [
        ("W04", "3", "5", "W04-0305"),
        ("C69", "1", "2", "C69-0102"),
        ("D19", "1", "2", "D19-1002"),
        ("D19", "5", "2", "D19-0502"),
        ("2020.acl", "main", "447", "2020.acl-main.447"),
    ],
)
def test_anthology_numbers_of_both_eras(
    tmp_path: Path, collection: str, volume: str, paper: str, expected: str
) -> None:
    path = tmp_path / "c.xml"
    path.write_text(
        f'<collection id="{collection}"><volume id="{volume}"><meta><year>2004</year></meta>'
        f'<paper id="{paper}"><title>T</title></paper></volume></collection>'
    )
    assert read(path)[0][0].paper_id == f"acl:{expected}"


def test_hostile_and_broken_xml_is_refused_in_one_line(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE c [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">]><collection id="P17">&b;</collection>'
    outside = '<!DOCTYPE c [<!ENTITY f SYSTEM "file:///etc/passwd">]><collection id="P17">&f;</collection>'
    for content, reason in (
        (bomb, "document type"),
        (outside, "document type"),
        (ANTHOLOGY[:-200], "no well-formed XML"),
        ("", "no well-formed XML"),
        ("<html/>", "<html>, neither"),
        ('<?xml version="1.0" encoding="no-such"?><collection/>', "XML"),
    ):
        path = tmp_path / "bad.xml"
        path.write_text(content, "utf-8")
        with pytest.raises(UserError, match=reason) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


# Zotero


CSL = [
    {
        "id": "http://zotero.org/users/1/items/ABCD1234",
        "type": "article-journal",
        "title": "Attention is all you need",
        "container-title": "arXiv:1706.03762 [cs]",
        "abstract": "Transformers.",
        "URL": "http://arxiv.org/abs/1706.03762",
        "author": [{"family": "Vaswani", "given": "Ashish"}, {"literal": "The Team"}],
        "issued": {"date-parts": [["2017", 6, 12]]},
    },
    {"id": "k2", "type": "book", "title": "A book", "issued": {"raw": "c. 1984"}, "DOI": "10.1000/book"},
]
ITEM: dict[str, Any] = {
    "key": "ABCD1234",
    "itemType": "conferencePaper",
    "title": "S2ORC",
    "creators": [
        {"firstName": "Kyle", "lastName": "Lo", "creatorType": "author"},
        {"name": "AllenAI", "creatorType": "author"},
        {"firstName": "E.", "lastName": "Ditor", "creatorType": "editor"},
    ],
    "abstractNote": "A corpus.",
    "date": "July 2020",
    "proceedingsTitle": "Proceedings of ACL",
    "DOI": "10.18653/v1/2020.acl-main.447",
}
RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:z="http://www.zotero.org/namespaces/export#"
 xmlns:dcterms="http://purl.org/dc/terms/" xmlns:bib="http://purl.org/net/biblio#"
 xmlns:foaf="http://xmlns.com/foaf/0.1/" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:prism="http://p/">
 <bib:Article rdf:about="http://arxiv.org/abs/1706.03762">
  <z:itemType>journalArticle</z:itemType>
  <dcterms:isPartOf><bib:Journal><dc:title>arXiv:1706.03762 [cs]</dc:title></bib:Journal></dcterms:isPartOf>
  <bib:authors><rdf:Seq><rdf:li><foaf:Person><foaf:surname>Vaswani</foaf:surname>
    <foaf:givenName>Ashish</foaf:givenName></foaf:Person></rdf:li></rdf:Seq></bib:authors>
  <dc:title>Attention</dc:title><dcterms:abstract>Transformers.</dcterms:abstract><dc:date>2017-06-12</dc:date>
  <dc:identifier><dcterms:URI><rdf:value>http://arxiv.org/abs/1706.03762</rdf:value></dcterms:URI></dc:identifier>
 </bib:Article>
 <bib:Article rdf:about="#item_7">
  <z:itemType>journalArticle</z:itemType><dcterms:isPartOf rdf:resource="urn:issn:1234"/>
  <dc:title>Other</dc:title><dc:date>1999</dc:date>
 </bib:Article>
 <bib:Journal rdf:about="urn:issn:1234"><dc:title>Nature</dc:title>
  <dc:identifier>DOI 10.1038/n1</dc:identifier></bib:Journal>
 <z:Attachment rdf:about="#item_9"><z:itemType>attachment</z:itemType><dc:title>PDF</dc:title></z:Attachment>
</rdf:RDF>"""


@pytest.mark.parametrize("indent", [None, 1])
def test_csl_json_of_a_library_is_a_corpus(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "library.json"
    path.write_text(json.dumps(CSL, indent=indent))
    papers, _ = read(path)
    assert papers == [
        Paper(
            "arxiv:1706.03762",
            "Attention is all you need",
            "Transformers.",
            ("Ashish Vaswani", "The Team"),
            2017,
            (),
            "arXiv:1706.03762 [cs]",
        ),
        Paper("doi:10.1000/book", "A book", "", (), 1984, (), "", "10.1000/book"),
    ]


def test_zoteros_own_json_is_a_corpus_without_its_notes_and_attachments(tmp_path: Path) -> None:
    notes = [{"itemType": kind, "key": kind, "title": "PDF"} for kind in ("attachment", "note", "annotation")]
    expected = Paper(
        "acl:2020.acl-main.447",
        "S2ORC",
        "A corpus.",
        ("Kyle Lo", "AllenAI"),
        2020,
        (),
        "Proceedings of ACL",
        "10.18653/v1/2020.acl-main.447",
    )
    exports: list[Any] = [
        {"config": {"id": "36a3b0b5"}, "collections": {}, "items": [ITEM, *notes]},
        [{"key": "A", "version": 1, "library": {}, "data": item} for item in (ITEM, *notes)],
    ]
    for export in exports:
        path = tmp_path / "zotero.json"
        path.write_text(json.dumps(export, indent=2))
        papers, reading = read(path)
        assert papers == [expected]
        assert reading.read == 1


def test_zotero_rdf_is_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "library.rdf"
    path.write_text(RDF)
    papers, _ = read(path)
    assert papers == [
        Paper(
            "arxiv:1706.03762",
            "Attention",
            "Transformers.",
            ("Ashish Vaswani",),
            2017,
            (),
            "arXiv:1706.03762 [cs]",
        ),
        Paper("doi:10.1038/n1", "Other", "", (), 1999, (), "Nature", "10.1038/n1"),
    ]


def test_a_json_document_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "library.json"
    path.write_text(json.dumps(CSL)[:-20])
    with pytest.raises(UserError, match="not JSON"):
        read(path)


def test_a_json_document_over_the_limit_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_JSON", 100)
    path = tmp_path / "library.json"
    path.write_text(json.dumps(CSL))
    with pytest.raises(UserError, match=r"over 100 bytes.*jq -c"):
        read(path)


# Hugging Face


def test_a_local_hugging_face_folder_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "set"
    lines(folder / "train.jsonl", [{"id": "a", "title": "Trained"}])
    lines(folder / "test.jsonl", [{"id": "x", "title": "Tested"}])
    assert [p.title for p in corpus.read(f"hf:{folder}", Reading())] == ["Trained"]
    assert [p.title for p in corpus.read(f"hf:{folder}:test", Reading())] == ["Tested"]
