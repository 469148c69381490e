"""List filters, as in AIP-160: `title:"bunny" AND duration > 600s`.

Comparisons (`=`, `!=`, `<`, `<=`, `>`, `>=`, and `:`, "has"), AND, OR, NOT or `-`, parentheses. A
bare word or quoted text is searched for in the title. As in AIP-160, OR binds tighter than AND, and
adjacent terms are an implicit AND that binds tighter still: `a b AND c OR d` is `(a b) AND (c OR
d)`.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from service.errors import InvalidFieldError
from service.library.films import Film

MAX_LENGTH: Final = 2000
MAX_DEPTH: Final = 64

_GRAMMAR = r"""
start: expression?
expression: sequence (_AND sequence)*
sequence: factor+
factor: term (_OR term)*
?term: (_NOT | _MINUS) simple -> negation
     | simple
?simple: "(" expression ")"     -> group
       | WORD COMPARATOR argument -> comparison
       | (WORD | STRING | TIME) -> text
argument: WORD | STRING | TIME | NEGATIVE

_AND: "AND"
_OR: "OR"
_NOT: "NOT"
_MINUS: "-"
COMPARATOR: "<=" | "<" | ">=" | ">" | "!=" | "=" | ":"
TIME.2: /\d{4}-\d\d-\d\d([Tt][0-9:.]+([Zz]|[+-]\d\d:\d\d)?)?(?![^\s()])/
STRING: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/s
WORD: /(?!(AND|OR|NOT)(?![^\s()<>=!:"',]))[^\s()<>=!:"',-][^\s()<>=!:"',]*/
NEGATIVE: /-[0-9][^\s()<>=!:"',]*/
%ignore /\s+/
"""

_EXPECTED = {
    "WORD": "a field or word",
    "STRING": "quoted text",
    "COMPARATOR": "one of = != < <= > >= :",
    "RPAR": '")"',
    "LPAR": '"("',
    "_AND": "AND",
    "_OR": "OR",
    "$END": "the end",
}
_COMPARATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    ":": operator.eq,
}
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,9})?([eE]\d{1,2})?")
_DURATION = re.compile(r"(-?\d{1,18}(?:\.\d{1,9})?)s")

Predicate: TypeAlias = Callable[[Film], bool]


@dataclass(frozen=True, slots=True)
class _Field:
    """A film field that a comparison can use."""

    get: Callable[[Film], object]
    """Returns the film's value, of the type that `read` returns, or None if it has none."""
    read: Callable[[str], object]
    """Parses an argument; raises ValueError saying what is expected."""
    is_text: bool = False


class _Node(NamedTuple):
    """A node of a filter's syntax tree."""

    depth: int
    matches: Predicate


class Filter:
    """Selects the films of a list."""

    def __init__(self, text: str) -> None:
        """Parse a filter; an empty one matches every film.

        Raises InvalidFieldError with the position and what was expected there.
        """
        if len(text) > MAX_LENGTH:
            _refuse(f"has {len(text)} characters; must have at most {MAX_LENGTH}")
        try:
            # The parser builds the nodes itself: it returns the result of `start`.
            node = _PARSER.parse(text)
        except UnexpectedInput as error:
            raise _syntax_error(text, error) from None
        self.text = text
        self._node = node
        assert isinstance(node, _Node)  # noqa: S101 - for the type checker

    @property
    def is_empty(self) -> bool:
        """Whether it matches every film."""
        return not self.text.strip()

    def matches(self, film: Film) -> bool:
        """Return whether a film matches."""
        assert isinstance(self._node, _Node)  # noqa: S101 - as above
        return self._node.matches(film)


class _Builder(Transformer[Token, _Node]):
    """Builds nodes from the parse tree."""

    def start(self, parts: list[_Node]) -> _Node:
        return parts[0] if parts else _Node(0, lambda film: True)

    def expression(self, parts: list[_Node]) -> _Node:
        return _all(parts)

    def sequence(self, parts: list[_Node]) -> _Node:
        return _all(parts)

    def factor(self, parts: list[_Node]) -> _Node:
        if len(parts) == 1:
            return parts[0]
        return _Node(_depth(parts), lambda film: any(part.matches(film) for part in parts))

    def negation(self, parts: list[_Node]) -> _Node:
        (part,) = parts
        return _Node(_depth(parts), lambda film: not part.matches(film))

    def group(self, parts: list[_Node]) -> _Node:
        return _Node(_depth(parts), parts[0].matches)

    def argument(self, parts: list[Token]) -> Token:
        return parts[0]

    def text(self, parts: list[Token]) -> _Node:
        wanted = _value(parts[0]).casefold()
        return _Node(0, lambda film: wanted in film.title.casefold())

    def comparison(self, parts: list[Token]) -> _Node:
        name, comparator, argument = parts
        field = _FIELDS.get(name)
        if field is None:
            _refuse(
                f'there is no field "{name}"; fields are {", ".join(_FIELDS)}', name.start_pos or 0
            )
        if comparator == ":" and argument == "*":
            return _Node(0, lambda film: field.get(film) is not None)
        try:
            wanted = field.read(_value(argument))
        except ValueError as error:
            _refuse(f"{name} is compared with {error}", argument.start_pos or 0)
        if comparator == ":" and field.is_text:
            part = str(wanted).casefold()
            return _Node(0, lambda film: part in str(field.get(film)).casefold())
        compare = _COMPARATORS[comparator]

        def matches(film: Film) -> bool:
            value = field.get(film)
            return value is not None and compare(value, wanted)

        return _Node(0, matches)


def _all(parts: list[_Node]) -> _Node:
    if len(parts) == 1:
        return parts[0]
    return _Node(_depth(parts), lambda film: all(part.matches(film) for part in parts))


def _depth(parts: list[_Node]) -> int:
    depth = 1 + max(part.depth for part in parts)
    if depth > MAX_DEPTH:
        _refuse("is nested too deeply; use fewer parentheses in one another")
    return depth


def _value(token: Token) -> str:
    if token.type != "STRING":
        return str(token)
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)


def _read_number(text: str) -> Fraction:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"a number, for example 1280, not {text!r}")
    return Fraction(text)


def _read_duration(text: str) -> Fraction:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"seconds, for example 600s, not {text!r}")
    return Fraction(match[1])


def _read_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        time = None
    if time is not None and time.tzinfo is None and len(text) == len("2026-01-31"):
        return time.replace(tzinfo=UTC)
    if time is None or time.tzinfo is None:
        raise ValueError(
            f"a date or an RFC 3339 time, for example 2026-01-31 or 2026-01-31T12:00:00Z, not "
            f"{text!r}"
        )
    return time


def _text(get: Callable[[Film], str]) -> _Field:
    return _Field(get, str, is_text=True)


_FIELDS = {
    "film_id": _text(lambda film: film.id),
    "title": _text(lambda film: film.title),
    "size_bytes": _Field(lambda film: film.size, _read_number),
    "digest": _text(lambda film: film.digest),
    "create_time": _Field(lambda film: film.created, _read_time),
    "duration": _Field(lambda film: film.facts.duration, _read_duration),
    "width": _Field(lambda film: film.facts.width, _read_number),
    "height": _Field(lambda film: film.facts.height, _read_number),
    "container": _text(lambda film: film.facts.container),
    "video_codec": _text(lambda film: film.facts.video_codec),
}


def _syntax_error(text: str, error: UnexpectedInput) -> InvalidFieldError:
    if isinstance(error, UnexpectedToken):
        at_end = error.token.type == "$END"
        place = len(text) if at_end else error.token.start_pos or 0
        found = "it ends" if at_end else f"{str(error.token)!r} stands"
        expected = error.accepts or error.expected
    else:
        assert isinstance(error, UnexpectedCharacters)  # noqa: S101 - the only other type
        place, expected = error.pos_in_stream or 0, error.allowed
        found = f"{text[place : place + 1]!r} stands"
    names = [name for kind, name in _EXPECTED.items() if kind in expected]
    return _invalid(f"{found} where {_one_of(names)} was expected", place)


def _one_of(names: list[str]) -> str:
    return " or ".join(names) if names else "something else"


def _refuse(problem: str, place: int | None = None) -> NoReturn:
    raise _invalid(problem, place)


def _invalid(problem: str, place: int | None) -> InvalidFieldError:
    where = "" if place is None else f"at character {place + 1}: "
    return InvalidFieldError("filter", f"{where}{problem}", reason="INVALID_FILTER")


_PARSER = Lark(_GRAMMAR, parser="lalr", transformer=_Builder())
