"""`docs/reference/ledger.md`: the tables of the ledger as a migrated database has them, in the words of `sql/`.

What each is comes from the database: columns, types, keys, checks. What it is for are the comments beside it in the file
that made it.
"""

import re
from collections import defaultdict
from pathlib import Path

import psycopg

from geo_assets_tests.golden import assert_golden

ROOT = Path(__file__).parents[2]

COLUMNS = """
    select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           coalesce(pg_get_expr(d.adbin, d.adrelid), '')
      from pg_class c join pg_attribute a on a.attrelid = c.oid
      left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
     where c.relnamespace = 'geo'::regnamespace and c.relkind = %s and a.attnum > 0 and not a.attisdropped
     order by 1, a.attnum
"""
CONSTRAINTS = """
    select c.relname, pg_get_constraintdef(o.oid) from pg_constraint o join pg_class c on c.oid = o.conrelid
     where c.relnamespace = 'geo'::regnamespace and o.contype in ('p', 'u', 'f', 'c')
     order by c.relname, array_position('{p,u,f,c}'::text[], o.contype::text), 2
"""
MADE = re.compile(
    r"((?:^--[^\n]*\n)*)^create (?:or replace )?(?:unlogged )?(?:table|view)(?: if not exists)? geo\.(\w+)(.*?);[ ]*$",
    re.MULTILINE | re.DOTALL,
)
COLUMN = re.compile(r"^[ ]+(?:add column )?(?:if not exists )?(\w+) [^\n]*?--[ ]*(.+)$", re.MULTILINE)
ALTERED = re.compile(r"^alter table geo\.(\w+)(.*?;[^\n]*)$", re.MULTILINE | re.DOTALL)
ADDED = re.compile(r"add column (?:if not exists )?(\w+) [^\n]*?--[ ]*(.+)$", re.MULTILINE)


def words():
    """(table, None) or (table, column) -> what `sql/` says beside it; the newest file has the last word."""
    said = {}
    for file in sorted(ROOT.glob("sql/*.sql")):
        text = file.read_text(encoding="utf-8")
        for before, table, body in MADE.findall(text):
            if before:
                said[table, None] = " ".join(line.removeprefix("--").strip() for line in before.splitlines())
            said |= {(table, column): comment for column, comment in COLUMN.findall(body)}
        for table, body in ALTERED.findall(text):
            said |= {(table, column): comment for column, comment in ADDED.findall(body)}
    return said


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;")


def tables(conn):
    said, found = words(), defaultdict(list)
    for table, column, kind, filled, default in conn.execute(COLUMNS, ("r",)).fetchall():
        rule = " ".join(["not null" if filled else "", f"default {default}" if default else ""]).strip()
        found[table].append(f"| `{column}` | {kind} | {cell(rule)} | {cell(said.get((table, column), ''))} |")
    rules = defaultdict(list)
    for table, rule in conn.execute(CONSTRAINTS).fetchall():
        rules[table].append(f"* `{' '.join(rule.split())}`")
    for table, rows in found.items():
        yield f"## geo.{table}\n"
        yield f"{cell(said.get((table, None), ''))}\n"
        yield "\n".join(["| column | type | | what |\n|---|---|---|---|", *rows, ""])
        yield "\n".join([*rules[table], ""])


def views(conn):
    said, columns = words(), defaultdict(list)
    for view, column, *_ in conn.execute(COLUMNS, ("v",)).fetchall():
        columns[view].append(f"`{column}`")
    for view, names in columns.items():
        yield f"### geo.{view}\n"
        yield f"{cell(said.get((view, None), ''))}\n"
        yield f"Columns: {', '.join(names)}.\n"


def test_the_page_of_the_ledger_is_what_a_migrated_database_has(settings):
    with psycopg.connect(settings.dsn("migrator")) as conn:
        head = (
            "# The ledger\n\n*Written by `make renew` from a migrated database and the comments in `sql/`; a test"
            " compares it.*\n\nThe schema `geo`. The role `geo_reader` may read it: `geo-assets psql`. What must never be"
            " false is a constraint. These are not a contract: views and tables may change with a release, the"
            " [HTTP API](http.md) and `--json` do not without an entry in the changelog.\n"
        )
        parts = [head, *tables(conn), "## Views\n", *views(conn)]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"
    assert_golden(ROOT / "docs" / "reference" / "ledger.md", text)
