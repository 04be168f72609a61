"""The formats of strings that are enforced, each as a regular language.

RFC 3339 (dates, times), 5321 (mail, without quoted and literal forms), 1123 (host names), 3986
(URIs with an authority), 4291 (IPv6), 4122 (UUID), 6901 (JSON pointers), ISO 8601 (durations).
Where a format allows more than anybody writes, a part of it is enforced: all texts are valid.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..anchors import whole
from ..regexp import RegexParser

if TYPE_CHECKING:
    from ..regular import Regular


@dataclass(frozen=True)
class Format:
    """A format by its pattern, which Python's ``re`` reads the same way."""

    pattern: str

    def language(self) -> Regular:
        """Return its texts."""
        return _language(self.pattern)


@functools.lru_cache(maxsize=64)
def _language(pattern: str) -> Regular:
    return whole(RegexParser(pattern, "javascript").parse())


_LEAP = r"(?:(?:0[48]|[2468][048]|[13579][26])00|[0-9]{2}(?:0[48]|[2468][048]|[13579][26]))"
_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DATE = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    rf"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_ZONE = r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_DURATION_TIME = (
    r"T(?:[0-9]{1,6}H(?:[0-9]{1,6}M)?(?:[0-9]{1,6}S)?|[0-9]{1,6}M(?:[0-9]{1,6}S)?|[0-9]{1,6}S)"
)
_DURATION_DATE = (
    r"(?:[0-9]{1,6}D|[0-9]{1,6}M(?:[0-9]{1,6}D)?|[0-9]{1,4}Y(?:[0-9]{1,6}M(?:[0-9]{1,6}D)?)?)"
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,9}}"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_HEX = r"[0-9a-fA-F]{1,4}"
_IPV6 = (
    "(?:"
    + "|".join(
        [rf"(?:{_HEX}:){{7}}{_HEX}", "::"]
        + [rf"(?:{_HEX}:){{{n}}}(?::{_HEX}){{1,{7 - n}}}" for n in range(1, 7)]
        + [rf"(?:{_HEX}:){{1,7}}:", rf":(?::{_HEX}){{1,7}}"]
    )
    + ")"
)
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_URI = (
    rf"[a-zA-Z][a-zA-Z0-9+.-]*://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{{1,5}})?"
    rf"(?:/{_PCHAR}*)*(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
)

FORMATS: dict[str, Format] = {
    name: Format(pattern)
    for name, pattern in {
        "date": _DATE,
        "date-time": rf"{_DATE}T{_CLOCK}{_ZONE}",
        "duration": rf"P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|[0-9]{{1,4}}W)",
        "email": rf"{_ATOM}(?:\.{_ATOM}){{0,2}}@{_LABEL}(?:\.{_LABEL}){{1,5}}",
        "hostname": _HOST,
        "ipv4": _IPV4,
        "ipv6": _IPV6,
        "json-pointer": r"(?:/(?:[^~/]|~[01])*)*",
        "time": rf"{_CLOCK}{_ZONE}",
        "uri": _URI,
        "uuid": r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
    }.items()
}
