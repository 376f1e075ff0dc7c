"""The pages as a site: each has its place, and its commands are run.

Here: the navigation, and that each block of commands has a test or a reason. Not here: links and anchors, which the
strict build looks at (`make docs`); the blocks and the lists (`pages.py`).
"""

import re
import shlex

import pytest
import yaml

from geo_assets_tests.commands.test_remedies import COMMANDS, typed
from geo_assets_tests.pages import BLOCK, NOT_RUN, ROOT, RUN_BY, blocks, pages

MARKED = re.compile(
    r"^(?:\$ )?(?:geo-assets|make|curl|psql|export|eval|kubectl|helm|az|pip|docker|systemctl|apt-get) ", re.MULTILINE
)


def places(entry):
    """The pages of a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        yield from places(list(entry.values()))
    else:
        for part in entry:
            yield from places(part)


def test_every_page_has_its_place_in_the_navigation_once_and_every_place_a_page():
    configured = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    in_index = {name for name in pages() if name.startswith("docs/decisions/0")}  # reached from their README
    assert sorted(places(configured["nav"])) == sorted(set(pages()) - in_index), "mkdocs.yml says where a page is"


@pytest.mark.parametrize("page", [page for page in pages() if "sh" in {block.language for block in blocks(page)}])
def test_every_block_of_commands_is_run_by_a_test_or_says_why_not(page):
    for block in blocks(page):
        if block.language == "sh":
            assert (block.why_not is None) == (page in RUN_BY and block.is_run), block.text
            assert block.why_not or page in RUN_BY, f"geo_assets_tests/pages.py: who runs this?\n{block.text}"


def test_the_tests_that_run_pages_are_there_and_read_them():
    for page, test in RUN_BY.items():
        assert page.rpartition("/")[2] in (ROOT / "geo_assets_tests" / test).read_text(encoding="utf-8")


def test_every_reason_is_about_a_block_that_there_is_and_names_tests_that_there_are():
    for page, reasons in NOT_RUN.items():
        for start, why in reasons.items():
            assert any(b.language == "sh" and b.text.startswith(start) for b in blocks(page)), (page, start)
            named = re.findall(r"[\w/]+\.py", why)
            assert [test for test in named if not (ROOT / "geo_assets_tests" / test).exists()] == []


@pytest.mark.parametrize("page", pages())
def test_commands_are_marked_as_such(page):
    bare = [block.text for block in blocks(page) if not block.language]
    assert page.startswith("docs/reference/") or [text for text in bare if MARKED.search(text)] == []


def commands_of(page):
    """Commands of ours in blocks, whole: lines that go on are joined; of several on a line, those that are ours."""
    for block in blocks(page):
        if block.language == "sh" and "<<" not in block.text:
            for line in block.text.replace("\\\n", " ").splitlines():
                yield from ours_of(line) if "geo-assets" in line else ()


def ours_of(line):
    reader = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    reader.whitespace_split = True
    command = []
    for word in [*reader, ";"]:
        if word.strip("|&;<>()"):
            command.append(word)
            continue
        while command and re.fullmatch(r"\w+=.*|\$", command[0]):  # variables of one command
            command.pop(0)
        if command[:1] == ["geo-assets"]:
            yield shlex.join(command[1:])
        command = []


def test_every_command_of_ours_on_a_page_can_be_typed_as_it_stands():
    found = [(page, words) for page in pages() for words in commands_of(page)]
    assert len(found) > 80
    for page, words in found:
        if not words.startswith("psql"):  # with SQL
            try:
                typed(words)
            except Exception as error:
                raise AssertionError(f"{page}: geo-assets {words}: {error}") from error


def test_every_command_that_a_sentence_names_is_one_of_ours_with_its_options():
    found = []
    for page in pages():
        prose = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
        found += [(page, words) for words in re.findall(r"`geo-assets ([a-z][^`]*)`", prose)]
    assert len(found) > 150
    assert [(page, words) for page, words in found if not is_ours(words)] == []


def is_ours(words):
    """Whether a command has the name and the options that are said of it; what they are about may be left out."""
    command, (first, *rest) = COMMANDS, re.split(r"[\s|\[\]]+", words)
    while commands := getattr(command, "commands", None):
        if first not in commands:
            return command is not COMMANDS and "convert" in commands  # `cog SRC DST` is `cog convert SRC DST`
        command = commands[first]
        first, *rest = [*rest, ""]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return first == "psql" or all(word in options for word in rest if word.startswith("--"))
