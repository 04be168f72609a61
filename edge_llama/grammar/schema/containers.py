"""Arrays and objects: keywords of schemas that hold together, merged item by item, key by key."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from .document import DERIVED, Member, step
from .fits import NothingFitsError, bounds
from .languages import matches, pattern_language
from .model import Arrays, FreeKeys, Objects, Property, Strings
from .negate import negate

if TYPE_CHECKING:
    from ..regular import Regular
    from .model import Key
    from .reader import Reader

_MAX_PATTERNS = 3
_APPLICATORS = {"$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas"}


def arrays(reader: Reader, members: list[Member]) -> Arrays:
    """Return the arrays that fit all members."""
    low, high = bounds(members, "minItems", "maxItems")
    count = max((len(m.schema.get("prefixItems", ())) for m in members), default=0)
    first = tuple(reader.key(_items(reader, members, place)) for place in range(count))
    others = _items(reader, members, None)
    silent = not any(_rest_word(m.schema) for m in members)
    closed = (silent and count > 0 and not reader.options.open) or any(
        other.schema is False for other in others
    )
    rest = None if closed and not (silent and low > count) else reader.key(others)
    if rest is None:
        high = count if high is None else min(high, count)
        if low > high:
            where = next(m.path for m in members if "minItems" in m.schema)
            raise NothingFitsError(
                step(where, "minItems"), f"minItems {low} is more than the {high} items there are"
            )
    unique = next((m.path for m in members if m.schema.get("uniqueItems")), None)
    if unique is not None:
        unique = None if high is not None and high < 2 else step(unique, "uniqueItems")
    where = members[0].path if members else "$"
    contains = _contains(reader, members, others)
    return Arrays(
        where, first[: high if high is not None else None], rest, low, high, unique, contains
    )


def _rest_word(schema: dict[str, Any]) -> str | None:
    if "items" in schema:
        return "items"
    return "unevaluatedItems" if "unevaluatedItems" in schema else None


def _items(reader: Reader, members: list[Member], place: int | None) -> list[Member]:
    """Return what holds for the item at ``place``, or for those after all that have a place."""
    found = []
    for member in members:
        prefix = member.schema.get("prefixItems", ())
        word = _rest_word(member.schema)
        if word == "unevaluatedItems" and not _alone(reader, member, word):
            continue
        if place is not None and place < len(prefix):
            found.append(member.at("prefixItems", place))
        elif word is not None:
            found.append(member.at(word))
    return found


def _alone(reader: Reader, member: Member, word: str) -> bool:
    """Tell whether no schema beside ``unevaluated...`` evaluates anything; refuse it if so."""
    busy = _APPLICATORS & member.schema.keys() or "contains" in member.schema
    if busy or DERIVED in member.path:
        reader.not_enforced(step(member.path, word), "schemas beside it evaluate items or keys too")
    return not busy


def _contains(
    reader: Reader, members: list[Member], others: list[Member]
) -> tuple[Key, int, int | None, Key] | None:
    found = None
    for member in members:
        if "contains" not in member.schema:
            continue
        low = int(member.schema.get("minContains", 1))
        high = member.schema.get("maxContains")
        path = step(member.path, "contains")
        if low == 0 and high is None:
            continue
        if found is not None or any("prefixItems" in one.schema for one in members):
            reader.not_enforced(path, "contains beside prefixItems or another contains")
            continue
        wanted = member.at("contains")
        key = reader.key([*others, wanted])
        plain = reader.key(others)
        if high is not None:
            denied = negate(reader, wanted)
            if denied is None:
                reader.not_enforced(step(member.path, "maxContains"), "contains cannot be negated")
                high = None
            else:
                plain = reader.key([*others, Member({"anyOf": denied}, f"{path}{DERIVED}not")])
        found = (key, low, None if high is None else int(high), plain)
    return found


def objects(reader: Reader, members: list[Member]) -> Objects:
    """Return the objects that fit all members."""
    low, high = bounds(members, "minProperties", "maxProperties")
    names = dict.fromkeys(name for m in members for name in m.schema.get("properties", ()))
    required = dict.fromkeys(name for m in members for name in m.schema.get("required", ()))
    names |= required
    patterns = list(
        dict.fromkeys(pattern for m in members for pattern in m.schema.get("patternProperties", ()))
    )
    languages = {p: pattern_language(p, _where(members, p)) for p in patterns}
    named = []
    for name in names:
        matching = {p for p in patterns if matches(languages[p], name)}
        held = _values(reader, members, name, matching)
        barred = any(m.schema is False for m in held) or not _name_fits(reader, members, name)
        if barred:
            if name in required:
                raise NothingFitsError(
                    _required_path(members, name), f"the required key {name!r} is not allowed"
                )
            continue
        named.append(Property(name, reader.key(held), name in required))
    where = members[0].path if members else "$"
    if high is not None and len(required) > high:
        raise NothingFitsError(step(where, "required"), f"more keys than maxProperties {high}")
    free = _free(reader, members, tuple(names), languages, low)
    if not free and low > len(named):
        where = next(m.path for m in members if "minProperties" in m.schema)
        raise NothingFitsError(
            step(where, "minProperties"), f"{low} is more than the {len(named)} keys there are"
        )
    if free and low - len(required) > 1:
        where = next(m.path for m in members if "minProperties" in m.schema)
        reader.not_enforced(
            step(where, "minProperties"), "keys that are not named might come twice"
        )
    return Objects(where, tuple(named), free, low, high)


def _where(members: list[Member], pattern: str) -> str:
    path = next(m.path for m in members if pattern in m.schema.get("patternProperties", ()))
    return step(step(path, "patternProperties"), pattern)


def _required_path(members: list[Member], name: str) -> str:
    path = next(m.path for m in members if name in m.schema.get("required", ()))
    return step(path, "required")


def _others_word(reader: Reader, member: Member) -> str | None:
    if "additionalProperties" in member.schema:
        return "additionalProperties"
    word = "unevaluatedProperties"
    return word if word in member.schema and _alone(reader, member, word) else None


def _values(
    reader: Reader, members: list[Member], name: str | None, matching: set[str]
) -> list[Member]:
    """Return what holds for the value of a key, by its name or by the patterns it matches."""
    found = []
    for member in members:
        schema = member.schema
        held = [
            member.at("patternProperties", pattern)
            for pattern in schema.get("patternProperties", ())
            if pattern in matching
        ]
        if name is not None and name in schema.get("properties", ()):
            held.append(member.at("properties", name))
        word = _others_word(reader, member)
        if not held and word is not None:
            held.append(member.at(word))
        found += held
    return found


def _name_fits(reader: Reader, members: list[Member], name: str) -> bool:
    rules = [m.schema["propertyNames"] for m in members if "propertyNames" in m.schema]
    if not rules:
        return True
    from .validate import Validator

    validator = Validator(reader.document)
    return all(validator.accepts(rule, name) for rule in rules)


def _free(
    reader: Reader,
    members: list[Member],
    names: tuple[str, ...],
    languages: dict[str, Regular],
    low: int,
) -> tuple[FreeKeys, ...]:
    """Return the keys beyond ``names``: one kind for each set of patterns that may match."""
    from ..regular import Text

    words = [_others_word(reader, member) for member in members]
    told = any(word is not None for word in words) or bool(languages)
    if not (told or reader.options.open or not names or low > len(names)):
        return ()
    if len(languages) > _MAX_PATTERNS:
        reader.not_enforced(
            _where(members, next(iter(languages))), f"more than {_MAX_PATTERNS} patterns at a place"
        )
        return ()
    closed = any(
        word is not None and member.schema[word] is False
        for word, member in zip(words, members, strict=True)
    )
    keys = _key_language(reader, members)
    if keys is None:
        return ()
    found = []
    for chosen in product((True, False), repeat=len(languages)):
        matching = {p for p, is_in in zip(languages, chosen, strict=True) if is_in}
        if not matching and (closed or (languages and not told)):
            continue
        held = _values(reader, members, None, matching)
        if any(member.schema is False for member in held):
            continue
        if not matching and languages and not any(words) and not reader.options.open:
            continue  # only keys that a pattern names
        strings = Strings(
            keys.path,
            keys.low,
            keys.high,
            (*keys.within, *(languages[p] for p in languages if p in matching)),
            (
                *keys.without,
                *(languages[p] for p in languages if p not in matching),
                *map(Text, names),
            ),
        )
        from .strings import exists

        if not (strings.within or strings.without) or exists(strings):
            found.append(FreeKeys(strings, reader.key(held)))
    return tuple(found)


def _key_language(reader: Reader, members: list[Member]) -> Strings | None:
    """Return the strings that all propertyNames allow."""
    rules = [m.at("propertyNames") for m in members if "propertyNames" in m.schema]
    if not rules:
        return Strings("$")
    try:
        return reader.key_strings(rules)
    except NothingFitsError:
        return None
