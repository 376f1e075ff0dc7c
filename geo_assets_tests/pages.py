"""The commands on the pages: where they are, by which test they are run, and why some are not.

Here: blocks marked `sh`, and the two lists. Not here: who runs them (the tests that are named), whether each block is in
a list (`test_docs.py`).
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Page -> the test that runs its blocks, in their order, but for those of `NOT_RUN`.
RUN_BY = {
    "README.md": "integration/test_pages.py",
    "docs/tutorial.md": "integration/test_pages.py",
    "docs/authentication.md": "integration/test_pages.py",
    "docs/deploy-vm.md": "vm/test_page.py",
    "docs/extend.md": "integration/test_extend.py",
}

#: Page -> the beginning of a block -> why no test runs it. Of those that begin with nothing: all of the page. Each command of ours
#: can be typed nevertheless (`test_docs.py`).
NOT_RUN = {
    "README.md": {
        "make demo": "the demo is the first step of the tutorial; the other command runs the tests",
        "geo-assets down ": "`dagster dev` stays in the foreground; integration/test_bring_your_own_dagster.py starts one",
        'export GEO_ASSETS_ACCOUNTS=\'{"survey"': "needs an account in Azure; azure/test_whole_job.py does it on an emulator",
        'export GEO_ASSETS_ACCOUNTS=\'{"lake"': "needs accounts in S3 and Google; s3/test_jobs.py does it on an emulator",
    },
    "CONTRIBUTING.md": {"": "installs, and runs the tests"},
    "deploy/azure/README.md": {"": "needs a subscription of Azure"},
    "docs/backup.md": {"": "destroys everything first; faults/test_backup.py rehearses it"},
    "docs/retention.md": {"": "deletes what is old; integration/test_purge.py does the same; a part needs Azure"},
    "docs/bring-your-own-dagster.md": {
        "": "needs a Dagster of a team; integration/test_bring_your_own_dagster.py makes one, and does the same"
    },
    "docs/tutorial.md": {
        "export GEO_ASSETS_ACCOUNTS": "needs an account in Azure; azure/test_whole_job.py does it on an emulator"
    },
    "docs/deploy-vm.md": {
        "apt-get install --yes certbot": "needs a name that the world can ask for",
        "cd /usr/local/src/geo_assets && git pull": "needs a release after this one",
    },
    "docs/alerts.md": {"": "needs a webhook; alerts/test_alerts.py posts to one of the tests"},
    "docs/logs.md": {"": "needs jq, and lines that somebody looks for; integration/test_told.py finds them"},
    "docs/collections.md": {
        "": "examples with names of your own; intake/test_catalogue_doors.py and stages/test_export.py do the same"
    },
    "docs/items.md": {"": "needs scenes of Landsat and Sentinel-2; stages/test_scenes.py does it with small ones"},
    "docs/receipts.md": {"": "examples with names of your own; integration/test_receipts.py does the same"},
    "docs/reconcile.md": {"": "examples with names of your own; integration/test_reconcile.py does the same"},
    "docs/runbook.md": {
        "": "something must be wrong first; monitoring/test_alerts.py puts each question to a database"
    },
    "docs/vector.md": {"": "examples with names of your own; vector/test_commands.py does the same"},
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: its path in the project.
        language: what stands after the fence, or nothing.
        text: without the fences.
    """

    page: str
    language: str
    text: str

    @property
    def why_not(self) -> str | None:
        """Why no test runs it."""
        reasons = NOT_RUN.get(self.page, {})
        return next((why for start, why in reasons.items() if self.text.startswith(start)), None)

    @property
    def is_run(self) -> bool:
        return self.language == "sh" and self.why_not is None


def blocks(page: str) -> list[Block]:
    """The blocks of a page in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(page, language, block) for language, block in BLOCK.findall(text)]


def pages() -> list[str]:
    """Every page of the project that a person reads."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]
    return sorted(page.relative_to(ROOT).as_posix() for page in found)
