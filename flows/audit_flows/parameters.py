"""The parameters of the jobs: what fits, and the JSON schema by which a server says the same.

Prefect checks them before a run exists: in this process with the types, on a server with the
schema alone, which knows patterns and lists but takes any text for a date. Reads the clock where
a parameter is about now.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from audit_flows.moments import FORMS, parse_moment
from audit_storage.layout import day_is_closed
from claude_max_audit.query import QUERY_KEYS, parse_query

_MONTH = r"\d{4}-(0[1-9]|1[0-2])"
_DAY = rf"{_MONTH}-(0[1-9]|[12]\d|3[01])"


def _closed(day: date) -> date:
    if not day_is_closed(day, datetime.now(UTC)):
        raise ValueError(f"{day} is not over yet (UTC); only closed days are archived")
    return day


def _moment(value: Any) -> Any:
    """Read text by our own rule: for pydantic, midnight would be the whole day."""
    if isinstance(value, str):
        return parse_moment(value, datetime.now(UTC))
    if isinstance(value, date) or value is None:
        return value
    raise ValueError(f"a time is text such as {FORMS}")


def _for_export(query: dict[str, Any]) -> dict[str, Any]:
    if "text_query" in query:
        raise ValueError("an export is exact and cannot search by words; leave text_query out")
    try:
        parse_query(query)
    except TypeError as wrong:
        raise ValueError(str(wrong)) from None
    return query


Day = Annotated[date, Field(json_schema_extra={"pattern": f"^{_DAY}$"})]
"""A UTC day, "YYYY-MM-DD"."""

ClosedDay = Annotated[Day, AfterValidator(_closed)]
"""A UTC day that is over."""

Month = Annotated[str, Field(pattern=f"^{_MONTH}$")]
"""A UTC month, "YYYY-MM"."""

LAST_MONTH = "last"

CheckedMonth = Annotated[str, Field(pattern=f"^({_MONTH}|{LAST_MONTH})$")]
"""A UTC month, "YYYY-MM", or "last": the one before the current."""

Moment = Annotated[
    date | datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^({_DAY}([T ]\d{{2}}:.*)?|today|yesterday|\d{{1,6}}[mhdw])$",
            "description": FORMS,
        }
    ),
]
"""A whole UTC day as a `date`, or an instant (naive: UTC), in the forms of `moments.py`."""

ExportQuery = Annotated[
    dict[str, Any],
    AfterValidator(_for_export),
    Field(
        json_schema_extra={
            "propertyNames": {"enum": sorted(set(QUERY_KEYS) - {"text_query"})},
        }
    ),
]
"""Keys and values of `search_logs`, but for words: an export is exact."""
