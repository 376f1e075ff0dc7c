"""The report at the end of a job, in tables and pictures.

Here: markdown and SVG from the ledger and the catalogue. Not here: deciding anything.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.deltas import Delta, FileDelta
from geo_assets.ledger.models import StageCounts, TaskRecord, columns_of
from geo_assets.ledger.outputs import sentence
from geo_assets.ledger.warnings import counted, kind_of
from geo_assets.raster.models import StripReport, StripRequest
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef, JobReport
from geo_assets.storage.blobs import BlobRef
from geo_assets.task_status import BAD, LIST_BAD
from geo_assets.vector.tables.introspection import columns, find

#: Failures shown in the UI; all are in `geo-assets tasks`.
_SHOWN = 50

#: Thumbnails in the strip.
_STRIP, _STRIP_BYTES = 12, 4 << 20

#: Pixels of the map; Dagster stores it with the event, so it must stay small.
_MAP_WIDTH, _MAP_HEIGHT = 480, 300
_MAP_SHAPES = 200


def report_job(context: StageContext, job: JobRef) -> JobReport:
    """Complete a job; returns the account of all its stages."""
    context.complete(job)
    record = context.jobs.find(job.job_id)
    return JobReport(job=job, stages=record.stages, complete=all(s.ended == s.total for s in record.stages))


def stage_table(stages: Sequence[StageCounts]) -> str:
    """Markdown: one row per stage."""
    columns = columns_of(stages)
    head = f"| stage | total | {' | '.join(columns)} |\n|---|--:|{'--:|' * len(columns)}\n"
    rows = (f"| {s.stage} | {s.total} | {' | '.join(str(s[status]) for status in columns)} |\n" for s in stages)
    return head + "".join(rows)


def failure_table(context: StageContext, job: JobRef, stage: str | None = None) -> str:
    """Markdown: the bad files with reason and remedy; empty where there are none. Dagster cuts off what is wider than
    its page.
    """
    bad = context.tasks.records(job.job_id, stage=stage, statuses=BAD, limit=_SHOWN + 1)
    if not bad:
        return ""
    rows = "".join(
        f"| {_cell(t.task_key)} | {t.status}, {t.error_code}: {_cell(t.error_message or '')} |"
        f" {_cell(t.remedy or '')} |\n"
        for t in bad[:_SHOWN]
    )
    more = f"\n… and more: `geo-assets tasks {job.job_id[:12]} {LIST_BAD}`\n" if len(bad) > _SHOWN else ""
    return f"| file | why | what to do |\n|---|---|---|\n{rows}{more}"


def delta_table(context: StageContext, job: JobRef) -> str:
    """Markdown: what the delivery changed, and the first files that it did not leave as they were."""
    counts = context.jobs.find(job.job_id).delta
    files = context.ledger.deltas.files(job.job_id, only=[Delta.NEW, Delta.CHANGED, Delta.GONE], limit=_SHOWN + 1)
    rows = "".join(f"| {_cell(f.file)} | {f.delta}{_fate(f)} |\n" for f in files[:_SHOWN])
    more = f"\n… and more: `geo-assets delta {job.job_id[:12]}`\n" if len(files) > _SHOWN else ""
    table = f"\n| file | delta |\n|---|---|\n{rows}{more}" if rows else ""
    return f"{counts}\n{table}" if counts else ""


def _fate(file: FileDelta) -> str:
    return "" if file.withdrawn is None else ", withdrawn" if file.withdrawn else ", its results kept"


def warning_table(context: StageContext, job: JobRef, stage: str | None = None) -> str:
    """Markdown: how many files have a warning of each kind, and the first of them; empty where there are none."""
    files = context.tasks.warned(job.job_id, stage)
    first: dict[str, tuple[str, str]] = {}
    for file, said in files:
        for warning in said:
            first.setdefault(kind_of(warning), (file, warning))
    rows = [
        f"| {kind} | {count} | {_cell(': '.join(first[kind]))} |\n"
        for kind, count in counted(said for _, said in files).items()
    ]
    if not rows:
        return ""
    return (
        f"| warning | files | the first |\n|---|--:|---|\n{''.join(rows)}\nFor each file: `geo-assets tasks"
        f" {job.job_id[:12]} --warned`\n"
    )


def _cell(text: str, limit: int = 200) -> str:
    """Text from a file's name or content, made harmless in a markdown table."""
    plain = "".join(c if c.isprintable() else " " for c in text)[:limit]
    return escape(plain, quote=False).replace("|", "\\|").replace("`", "'").replace("[", "\\[").replace("!", "\\!")


def table_columns(context: StageContext, table: str) -> dict[str, str]:
    """Name and type of the columns of a published table, `schema.name`; empty where it is no longer there."""
    schema, _, name = table.partition(".")
    with connect(context.settings, autocommit=True) as conn:
        oid = find(conn, schema, name)
        return columns(conn, oid) if oid is not None else {}


def output_list(tasks: Sequence[TaskRecord]) -> str:
    """Markdown: what was made of the first files. A list: paths in columns are wider than Dagster's page, and it cuts
    them off.
    """
    return "".join(
        f"* {_cell(t.task_key)}: {_cell(sentence(t.outputs))}{_item(t.outputs.stac_item)}\n" for t in tasks[:_SHOWN]
    )


def _item(name: str | None) -> str:
    return f", item {_cell(name)}" if name else ""


def footprint_map(geometries: Sequence[dict[str, Any]]) -> str:
    """Markdown with an inline SVG of footprints in EPSG:4326, plate carrée, fitted to them; empty where there
    are none.
    """
    rings = [ring for geometry in geometries[:_MAP_SHAPES] for ring in _rings(geometry)]
    if not rings:
        return ""
    xs, ys = [x for ring in rings for x, _ in ring], [y for ring in rings for _, y in ring]
    pad = max(max(xs) - min(xs), max(ys) - min(ys), 0.01) * 0.05
    west, north = min(xs) - pad, max(ys) + pad
    scale = min(_MAP_WIDTH / (max(xs) + pad - west), _MAP_HEIGHT / (north - min(ys) + pad))
    paths = "".join(
        f'<path d="M{" L".join(f"{(x - west) * scale:.1f} {(north - y) * scale:.1f}" for x, y in ring)}Z"/>'
        for ring in rings
    )
    label = f"{min(xs):.3f}, {min(ys):.3f} to {max(xs):.3f}, {max(ys):.3f} (longitude, latitude)"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_MAP_WIDTH}" height="{_MAP_HEIGHT + 18}"><rect width="100%"'
        ' height="100%" fill="#f4f6f8"/><g fill="#2b7bba" fill-opacity=".25" stroke="#1b4f7a"'
        f' stroke-width="1">{paths}</g><text x="6" y="{_MAP_HEIGHT + 12}" font-family="sans-serif" font-size="11"'
        f' fill="#445">{label}</text></svg>'
    )
    return f"![footprints](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def thumbnail_strip(context: StageContext, tasks: Sequence[TaskRecord]) -> str:
    """Markdown with an inline picture of the first thumbnails; empty where there are none."""
    refs = [BlobRef.parse(thumbnail) for t in tasks for thumbnail in t.outputs.thumbnails][:_STRIP]
    if not refs:
        return ""
    try:
        return _strip(context, refs)
    except GeoAssetsError:
        return ""  # a picture must never be what fails a stage


def _strip(context: StageContext, refs: Sequence[BlobRef]) -> str:
    with context.sandbox.workspace() as folder:
        files = []
        for index, ref in enumerate(refs):
            files.append(folder / f"{index}.png")
            context.picture_container(ref.container).download(ref.path, files[-1])
        request = StripRequest(thumbnails=tuple(map(str, files)), destination=str(folder / "strip.jpg"))
        context.sandbox.call("geo_assets.raster.strip:strip", request, StripReport)
        picture = base64.b64encode(
            context.sandbox.take(folder / "strip.jpg", folder, most=_STRIP_BYTES).read_bytes()
        ).decode()
    return f"![the first {len(refs)}](data:image/jpeg;base64,{picture})"


def _rings(geometry: dict[str, Any]) -> Iterator[list[tuple[float, float]]]:
    polygons = (
        geometry["coordinates"]
        if geometry["type"] == "MultiPolygon"
        else [geometry["coordinates"]]
        if geometry["type"] == "Polygon"
        else []
    )
    for polygon in polygons:
        if not polygon or not polygon[0]:
            continue
        yield [(float(x), float(y)) for x, y, *_ in polygon[0]]
