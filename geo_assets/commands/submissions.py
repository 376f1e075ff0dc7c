"""`geo-assets submit`, `plan` and `job-types`: requests for jobs.

Here: arguments, what is printed. Not here: parameters (`geo_assets/parameters.py`), recording and launching
(`submissions/`), what became of a job (`jobs.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json, warn, write_json
from geo_assets.commands.shared import follow_job, open_submitter, show_job, tell_pause
from geo_assets.text import how_many, human_bytes, one_line

SUBMIT_EXAMPLES = """Examples:

`geo-assets submit ingest_container --param container=landing --wait`

`geo-assets submit ingest_container --param container=landing --param 'include=*.tif' --param target_crs=EPSG:3857`

`geo-assets submit hello_world --param n=30 --param message=hi --wait`

Parameters of each job type: `geo-assets job-types`"""


AllowEmpty = Annotated[bool, typer.Option("--allow-empty", help="Accept a prefix or patterns that match nothing.")]


def submit(
    job_type: Annotated[str, typer.Argument(help="one of those that `geo-assets job-types` lists")],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="KEY=VALUE", help="A parameter; repeat a list's.")
    ] = None,
    params_file: Annotated[Path | None, typer.Option("--params-file", help="A JSON object of parameters.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow to the end; exit 0 only if completed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Redo finished work too.")] = False,
    allow_empty: AllowEmpty = False,
    allow_mass_retire: Annotated[
        bool,
        typer.Option("--allow-mass-retire", help="With deleted=retire: withdraw even more than max_retire_percent."),
    ] = False,
    verify_sources: Annotated[
        bool,
        typer.Option(
            "--verify-sources",
            help="Hash files that seem unchanged: for directories, whose etags are only time and size.",
        ),
    ] = False,
    plan_hash: Annotated[
        str | None, typer.Option("--plan-hash", help="Submit only if `plan` still gives this hash.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Validate, record and start a job. The same request is the same job: finished work is not repeated."""
    from geo_assets.ledger.models import JobStatus
    from geo_assets.settings import load_settings
    from geo_assets.submissions.cli_parameters import read_parameters

    asked = [
        f"{name}=true" for name, wanted in (("allow_empty", allow_empty), ("verify_sources", verify_sources)) if wanted
    ]
    parameters = read_parameters(job_type, [*(param or []), *asked], params_file)
    with open_submitter() as submitter:
        if plan_hash:
            from geo_assets.stages.planning import insist_on_plan

            insist_on_plan(load_settings(), submitter.tasks, parameters, plan_hash)
        submitted = submitter.submit(parameters, submitted_by="cli", force=force, allow_mass_retire=allow_mass_retire)
        if submitter.warning:
            log(submitter.warning)
        if not wait:
            record = submitter.jobs.find(submitted.job_id)
            show_job(record, as_json=as_json)
            tell_pause(submitter, record)
            return
        record = follow_job(submitter, submitted.job_id)
        if record.status is JobStatus.FAILED and submitted.attempt is None:
            # an attempt of it was under way when we submitted, and has failed since: our request is not done yet
            submitter.submit(parameters, submitted_by="cli", force=force, allow_mass_retire=allow_mass_retire)
            record = follow_job(submitter, submitted.job_id)
        show_job(record, as_json=as_json)
    if record.status is not JobStatus.COMPLETED:
        raise typer.Exit(1)


def plan(
    job_type: Annotated[str, typer.Argument(help="as for `submit`")],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="KEY=VALUE", help="As for `submit`.")
    ] = None,
    params_file: Annotated[Path | None, typer.Option("--params-file", help="As for `submit`.")] = None,
    allow_empty: AllowEmpty = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what a submission would create, change and skip, and the plan's hash for `submit --plan-hash`."""
    from geo_assets.settings import load_settings
    from geo_assets.stages.planning import make_plan
    from geo_assets.submissions.cli_parameters import read_parameters

    asked = [*(param or []), *(["allow_empty=true"] if allow_empty else [])]
    parameters = read_parameters(job_type, asked, params_file)
    with open_submitter() as submitter:
        made = make_plan(load_settings(), submitter.tasks, parameters)
    if as_json:
        write_json(made.document())
        return
    with made:
        for s in made.sources:  # not by the console, which takes longer for a line than a plan does for a file
            kind = "" if s.kind == s.action else s.kind
            print(f"{s.action:<12}{kind:<12}{s.stage:<15}{one_line(s.path)}  {one_line(s.reason)}")
    summary = made.summary
    counts = ", ".join(f"{n} {what}" for what, n in sorted(summary.counts.items())) or "nothing to list"
    out.print(
        f"{counts}; {how_many(summary.expected_tasks, 'task')}, {human_bytes(summary.bytes)} to work on\n"
        f"plan hash {summary.plan_hash}"
    )


def job_types(
    job_type: Annotated[str | None, typer.Argument(metavar="[JOB_TYPE]", help="One of them; all by default.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the job types and their parameters."""
    from geo_assets.parameters import JOB_TYPES, parameters_type

    shown = {job_type: parameters_type(job_type)} if job_type else dict(JOB_TYPES.items())
    warn((str(broken) for broken in JOB_TYPES.broken.values()), "left out: ")
    if as_json:
        print_json({name: model.model_json_schema() for name, model in shown.items()})
        return
    for name, model in shown.items():
        out.print(f"[bold]{name}[/]  {model.summary}")
        width = max(map(len, model.model_fields), default=0) + 2
        for field, schema in model.model_json_schema().get("properties", {}).items():
            out.print(
                f"    {field:<{width}}{_described(schema, required=model.model_fields[field].is_required())}",
                markup=False,
                soft_wrap=True,
            )


def _legible(value: str) -> str:
    """A value in a list of values: in quotes, unless it is a word."""
    return value if value.replace("_", "").isalnum() else json.dumps(value)


def _described(schema: dict[str, Any], *, required: bool) -> str:
    """A parameter for people: what it is, which values it may have, its default."""
    variants = [schema, *schema.get("anyOf", [])]
    allowed: list[str] = next((variant["enum"] for variant in variants if "enum" in variant), [])
    text = schema.get("description", "") + (f": {', '.join(map(_legible, allowed))}" if allowed else "")
    default = schema.get("default")
    if required:
        return f"{text} (required)"
    if isinstance(default, list | dict) and "prefixItems" not in schema:
        return f"{text} (may be repeated)"
    return text if default in (None, "") else f"{text} (default {json.dumps(default).strip(chr(34))})"
