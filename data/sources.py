"""Records of the large catalogues, told by their own fields, as the plain records of data.clean."""

from collections.abc import Mapping
from typing import Any

from data import openalex, semantic_scholar, zotero

_OPENALEX = ("authorships", "abstract_inverted_index")
_SEMANTIC_SCHOLAR = ("externalids", "externalIds", "s2fieldsofstudy", "mag_field_of_study", "paperAbstract")
_CSL = ("container-title", "issued")
_ZOTERO = ("itemType", "creators")
MARKS = frozenset((*_OPENALEX, *_SEMANTIC_SCHOLAR, *_CSL, *_ZOTERO, "data"))
"""Fields by which a catalogue's record is told: one with none of them is plain."""
FIELDS = (*openalex.FIELDS, *semantic_scholar.FIELDS, *zotero.CSL_FIELDS)
"""The names of the fields that are looked at, for formats that read only some columns."""


def plain(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record as it is, or if it is one of a catalogue's, its plain form."""
    if MARKS.isdisjoint(record):  # of nearly all corpora: one test for all
        return record
    if any(mark in record for mark in _OPENALEX):
        return openalex.work_record(record)
    if any(mark in record for mark in _SEMANTIC_SCHOLAR):
        return semantic_scholar.paper_record(record)
    inner = record.get("data")
    if any(mark in record for mark in _ZOTERO) or (isinstance(inner, Mapping) and "itemType" in inner):
        return zotero.zotero_record(record)
    return zotero.csl_record(record) if any(mark in record for mark in _CSL) else record
