"""The rules of deploy/monitoring/alerts.yaml on series of the tests, for machines without promtool.

Here: the forms of expressions that these rules have, on one value a minute: comparisons with a number, `and`, `-`, `/`,
`sum`, `max`, `increase`, `absent`, `time`, and `for`. Not here: the rest of PromQL, whose engine is promtool. An increase
is not extrapolated to the whole of its range.
"""

import math
import operator
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
ALERTS = FOLDER / "alerts.yaml"

#: Minutes for which the last value of a series still counts.
LOOK_BACK = 5

MINUTES = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}

TOKEN = re.compile(r'\s*(\d+[smhd]\b|\d[\d.]*(?:e\d+)?|[A-Za-z_]\w*|"[^"]*"|=~|!=|[<>=]=|[-<>=/(){}\[\],])')

COMPARE = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "==": operator.eq}


def minutes(duration: str) -> int:
    return round(int(duration[:-1]) * MINUTES[duration[-1]])


def values(notation: str) -> list:
    """`1+2x3` is 1 3 5 7; `_x3` is three minutes without a value."""
    made: list = []
    for part in notation.split():
        start, _, times = part.partition("x")
        if start == "_":
            made += [None] * int(times or 1)
        else:
            first, _, step = start.partition("+")
            made += [float(first) + float(step or 0) * n for n in range(int(times or 0) + 1)]
    return made


@dataclass
class World:
    """What was scraped: for each series its labels and a value for each minute."""

    series: dict[str, list[tuple[dict, list]]] = field(default_factory=dict)

    @classmethod
    def of(cls, written: dict[str, str]):
        world = cls()
        for name, notation in written.items():
            metric, _, labels = name.partition("{")
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            world.series.setdefault(metric, []).append((pairs, values(notation)))
        return world

    def chosen(self, metric, matchers, first, last):
        """[(labels, values from minute `first` to `last`)] of the series that fit."""
        for labels, line in self.series.get(metric, []):
            if all(fits(labels.get(name, "")) for name, fits in matchers):
                yield labels, [value for value in line[max(first, 0) : last + 1] if value is not None]


class Expression:
    """An expression; a call evaluates it at a minute, to a number or to [(labels, value)]."""

    def __init__(self, text: str) -> None:
        self.metrics: set[str] = set()
        self._tokens = self._tokenized(text)
        self._call = self._both()
        assert not self._tokens, f"not understood: {self._tokens}"

    def __call__(self, world: World, minute: int):
        return self._call(world, minute)

    @staticmethod
    def _tokenized(text: str) -> list[str]:
        tokens, place = [], 0
        while place < len(text.rstrip()):
            found = TOKEN.match(text, place)
            assert found, f"not understood: {text[place:]}"
            tokens.append(found[1])
            place = found.end()
        return tokens

    def _take(self, *wanted: str) -> str:
        assert self._tokens, f"ends where {wanted or 'more'} is expected"
        token = self._tokens.pop(0)
        assert not wanted or token in wanted, f"{token} where {wanted} is expected"
        return token

    def _next(self, *wanted: str) -> bool:
        return bool(self._tokens) and self._tokens[0] in wanted

    def _both(self):
        left = self._comparison()
        while self._next("and"):
            self._take()
            left = self._and(left, self._comparison())
        return left

    @staticmethod
    def _and(left, right):
        def both(world, minute):
            there = [labels for labels, _ in right(world, minute)]
            return [(labels, value) for labels, value in left(world, minute) if labels in there]

        return both

    def _comparison(self):
        left = self._arithmetic()
        if not self._next(*COMPARE):
            return left
        compare, number = COMPARE[self._take()], float(self._take())
        return lambda world, minute: [(labels, v) for labels, v in left(world, minute) if compare(v, number)]

    def _arithmetic(self):
        left = self._value()
        while self._next("-", "/"):
            left = self._combined(left, self._take(), self._value())
        return left

    @staticmethod
    def _combined(left, sign, right):
        def calculate(a, b):
            return a - b if sign == "-" else a / b if b else math.nan

        def combine(world, minute):
            a, b = left(world, minute), right(world, minute)
            if isinstance(a, float):
                return [(labels, calculate(a, value)) for labels, value in b]
            if isinstance(b, float):
                return [(labels, calculate(value, b)) for labels, value in a]
            return [(labels, calculate(x, y)) for labels, x in a for others, y in b if labels == others]

        return combine

    def _value(self):
        name = self._take()
        if not self._next("("):
            return self._selector(name)
        self._take("(")
        if name == "time":
            self._take(")")
            return lambda _, minute: 60.0 * minute
        inner = self._selector(self._take(), ranged=True) if name == "increase" else self._both()
        self._take(")")
        return FUNCTIONS[name](inner)

    def _selector(self, metric, *, ranged=False):
        self.metrics.add(metric)
        matchers = self._matchers() if self._next("{") else []
        if ranged:
            self._take("[")
            span = minutes(self._take())
            self._take("]")
            return lambda world, minute: list(world.chosen(metric, matchers, minute - span, minute))
        return lambda world, minute: [
            (labels, line[-1])
            for labels, line in world.chosen(metric, matchers, minute - LOOK_BACK + 1, minute)
            if line
        ]

    def _matchers(self):
        found = []
        self._take("{")
        while not self._next("}"):
            name, sign, value = self._take(), self._take("=", "=~"), self._take().strip('"')
            wanted = re.compile(value if sign == "=~" else re.escape(value))
            found.append((name, wanted.fullmatch))
            if self._next(","):
                self._take()
        self._take("}")
        return found


def _folded(fold):
    def of(inner):
        def folded(world, minute):
            found = [value for _, value in inner(world, minute)]
            return [({}, fold(found))] if found else []

        return folded

    return of


def _increase(inner):
    def increased(world, minute):
        return [
            (
                labels,
                sum(after - before if after >= before else after for before, after in pairwise(line)),
            )
            for labels, line in inner(world, minute)
            if len(line) > 1
        ]

    return increased


def _absent(inner):
    return lambda world, minute: [] if inner(world, minute) else [({}, 1.0)]


FUNCTIONS = {"sum": _folded(math.fsum), "max": _folded(max), "increase": _increase, "absent": _absent}


def rules() -> dict[str, dict]:
    """Alert -> its rule."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def firing(rule: dict, world: World, minute: int) -> list[dict]:
    """The labels of the alerts of a rule that fire at a minute."""
    expression, held = Expression(rule["expr"]), minutes(rule.get("for", "0m"))
    lasting = [[labels for labels, _ in expression(world, m)] for m in range(minute - held, minute + 1)]
    return [labels for labels in lasting[-1] if all(labels in then for then in lasting)]
