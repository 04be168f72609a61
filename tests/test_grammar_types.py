"""Python types as schemas, and their objects as values; with pydantic and without."""

from __future__ import annotations

import datetime as dt
import enum
import sys
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal, Optional, TypedDict, Union

import pydantic
import pytest
from grammars import check

from edge_llama.errors import GrammarError, InvalidOutputError
from edge_llama.grammar import Grammar


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Moon:
    name: str
    radius_km: float
    discovered: Optional[dt.date] = None  # noqa: UP045 - both spellings are tried
    tags: list[str] = field(default_factory=list)


@dataclass
class Planet:
    name: str
    moons: list[Moon]
    colour: Colour
    kind: Literal["rock", "gas"]
    at: tuple[int, int]
    extra: dict[str, Union[int, str]] = field(default_factory=dict)  # noqa: UP007
    inner: Planet | None = None
    id: uuid.UUID = uuid.UUID(int=0)


class Row(TypedDict, total=False):
    when: dt.datetime
    where: Moon


TEXT = (
    '{"name": "Saturn", "moons": [{"name": "Titan", "radius_km": 2574.7, "discovered": '
    '"1655-03-25"}], "colour": "red", "kind": "gas", "at": [1, 2], "extra": {"a": 1, "b": "c"}}'
)
TITAN = Moon("Titan", 2574.7, dt.date(1655, 3, 25))
SATURN = Planet("Saturn", [TITAN], Colour.RED, "gas", (1, 2), {"a": 1, "b": "c"})


@pytest.fixture(params=["pydantic", "by hand"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "by hand":
        monkeypatch.setitem(sys.modules, "pydantic", None)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_a_dataclass_comes_back() -> None:
    grammar = Grammar.json_schema(Planet)
    check(grammar, [TEXT], [TEXT.replace("red", "green"), TEXT.replace("1655-03", "1655-13")])
    found = grammar.parse(TEXT)
    assert found == SATURN
    assert isinstance(found.moons[0].discovered, dt.date)
    assert isinstance(found.at, tuple)
    assert grammar.parse(TEXT.replace('"at"', '"inner": null, "at"')).inner is None


@pytest.mark.usefixtures("way")
def test_a_typed_dict_comes_back() -> None:
    grammar = Grammar.json_schema(Row)
    text = '{"when": "2024-02-29T12:00:00Z", "where": {"name": "x", "radius_km": 1}}'
    check(grammar, [text, "{}"], ['{"when": "2024-02-30T12:00:00Z"}'])
    found = grammar.parse(text)
    assert found["when"] == dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc)
    assert found["where"] == Moon("x", 1.0)


def test_a_pydantic_model_comes_back() -> None:
    class Cat(pydantic.BaseModel):
        kind: Literal["cat"] = "cat"
        lives: int = pydantic.Field(ge=1, le=9)

    class Dog(pydantic.BaseModel):
        kind: Literal["dog"] = "dog"
        name: str = pydantic.Field(min_length=1, pattern="^[A-Z]")

    class Home(pydantic.BaseModel):
        pet: Cat | Dog = pydantic.Field(discriminator="kind")

        @pydantic.model_validator(mode="after")
        def _no_seven(self) -> Home:
            if isinstance(self.pet, Cat) and self.pet.lives == 7:
                raise ValueError("seven is out")
            return self

    grammar = Grammar.json_schema(Home)
    check(
        grammar,
        ['{"pet": {"kind": "cat", "lives": 9}}', '{"pet": {"kind": "dog", "name": "Rex"}}'],
        ['{"pet": {"lives": 9}}', '{"pet": {"kind": "cat", "lives": 10}}'],
    )
    assert grammar.parse('{"pet": {"kind": "cat", "lives": 9}}') == Home(pet=Cat(lives=9))
    with pytest.raises(InvalidOutputError, match="seven is out"):
        grammar.parse('{"pet": {"kind": "cat", "lives": 7}}')


@pytest.mark.parametrize("kind", [complex, dict[int, str], list[Any] | set[int], "text"])
def test_what_cannot_be_said_without_pydantic_is_named(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(GrammarError) as caught:
        Grammar.json_schema(kind)
    assert caught.value.hint
