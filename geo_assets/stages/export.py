"""Export: collections as a static STAC catalogue that opens without a network, with their data.

Here: what is in it, and its links. Not here: where it goes (`export_target.py`), the formats of its files
(`stac/geoparquet.py`, `stac/footprints.py`, `vector/tables/export.py`).

    catalog.json
    COLLECTION/collection.json, items.parquet, footprints.pmtiles
    COLLECTION/ITEM/ITEM.json, its COGs and thumbnails, its tables as GeoParquet

All hrefs between these files are relative. The same catalogue gives the same bytes. A file that is gone, or is not the
one that was published, is left out: its item stays, without that asset, and says so.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from itertools import count as numbers
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote

import psycopg
from pydantic import BaseModel, Field

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError, for_job
from geo_assets.ledger.published import Published
from geo_assets.once import made_once
from geo_assets.outcomes import Outputs
from geo_assets.settings import Settings
from geo_assets.stac import pgstac, reading
from geo_assets.stac.footprints import PMTILES, gather_footprints, write_footprints
from geo_assets.stac.geoparquet import write_items
from geo_assets.stac.item import WARNINGS
from geo_assets.stages.export_target import CATALOG, Target, open_target, safe_name
from geo_assets.stages.items_file import KEY as ITEMS_FILE
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import open_container
from geo_assets.storage.local import sha256_of
from geo_assets.text import batched
from geo_assets.vector.geoparquet import PARQUET
from geo_assets.vector.tables.export import write_table
from geo_assets.vector.tables.session import Session, open_session

#: The map of a collection's items.
_FOOTPRINTS = "footprints.pmtiles"

#: Media types of JSON.
_JSON, _GEOJSON = "application/json", "application/geo+json"

#: Items whose outputs are asked for at a time.
_BATCH = 500

_TABLE = re.compile(r"postgresql://[^?]*\?table=vector\.(?P<name>.+)")

#: What tells of an account in Azure, and has no meaning for a file beside its item.
_OF_ACCOUNTS = ("storage/", "alternate-assets/")

#: Links that an export has of its own.
_OWN_LINKS = frozenset(("root", "self", "parent", "collection", "item", "items"))

_FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"


class Data(StrEnum):
    """What becomes of the files that items lead to."""

    COPY = "copy"
    LINK = "link"  # hard links where possible, else copies
    NONE = "none"  # hrefs stay as they are


class LeftOut(BaseModel):
    """A file or table that its item leads to, and that is not in the export."""

    item: str = Field(description="COLLECTION/ITEM")
    asset: str = Field(description="its key")
    code: str = Field(description="OUTPUT_DAMAGED, OUTPUT_GONE")
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.item}, asset {self.asset}: {self.code}: {self.message}"


class Exported(BaseModel):
    """What was exported."""

    to: str
    collections: dict[str, int] = Field(description="collection -> items")
    items: int
    files: int
    bytes: int
    left_out: tuple[LeftOut, ...] = Field((), description="what could not be taken along")


def export(
    settings: Settings,
    collection: str,
    to: str,
    *,
    alone: bool = False,
    data: Data = Data.COPY,
    strict: bool = False,
    told: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export a collection, and what else the submissions published that were asked for it.

    Args:
        settings: the database and the accounts.
        collection: as jobs name it, or any other.
        to: a folder, or ALIAS/CONTAINER[/PATH]; empty, or not there.
        alone: this collection and no other.
        data: what becomes of files and tables.
        strict: an error for what is left out otherwise.
        told: called with the name of each item.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND; INVALID_PARAMETERS, the place is not empty; UNKNOWN_ACCOUNT;
            STILL_AT_WORK, another export to it; if strict, OUTPUT_DAMAGED and OUTPUT_GONE; what an account answers.
            Nothing is left of what was begun.
    """
    with ExitStack() as stack:
        conn = stack.enter_context(connect(settings))
        with reading.at_one_moment(conn):
            others = [] if alone else Published.collections_of(conn, collection)
            found = [name for name in dict.fromkeys([collection, *others]) if pgstac.has_collection(conn, name)]
            if not found:
                raise GeoAssetsError("COLLECTION_NOT_FOUND", f"there is no collection {collection[:200]}")
            target = stack.enter_context(open_target(settings, to))
            held = [_read(conn, name, target, stack) for name in found]
        target.begin([safe_name(name) for name in found])
        work = _Work(settings, conn, target, data, told, stack, strict=strict)
        counts = {one.name: work.collection(one) for one in held}
        work.catalog(collection, held)
        return Exported(
            to=str(target),
            collections=counts,
            items=sum(counts.values()),
            files=target.files,
            bytes=target.bytes,
            left_out=tuple(work.left_out),
        )


@dataclass(frozen=True, slots=True)
class _Held:
    """A collection as it was read."""

    stored: dict[str, Any]
    items: IO[str]  # a line for each: the item, and the blobs that were put out for it, each with its SHA-256
    footprints: str  # the temporary table that has them

    @property
    def name(self) -> str:
        return str(self.stored["id"])

    @property
    def title(self) -> str:
        return str(self.stored.get("title") or self.name)


def _read(conn: psycopg.Connection[Any], name: str, target: Target, stack: ExitStack) -> _Held:
    """Read all of a collection."""
    folder = target.path(f"{safe_name(name)}/{_FOOTPRINTS}").parent
    spool = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115 - the stack closes it
    items = stack.enter_context(spool)
    for batch in batched(reading.items_of(conn, name), _BATCH):
        known = Published.outputs_of(conn, [f"{name}/{item['id']}" for item in batch])
        for item in batch:
            made = known.get(f"{name}/{item['id']}", Outputs())
            blobs = {blob: made.all_checksums.get(blob) for blob in sorted(made.all_blobs)}
            items.write(f"{json.dumps([item, blobs])}\n")
    items.seek(0)
    return _Held(pgstac.collection_of(conn, name), items, gather_footprints(conn, name))


@dataclass
class _Work:
    settings: Settings
    conn: psycopg.Connection[Any]
    target: Target
    data: Data
    told: Callable[[str], None]
    stack: ExitStack
    strict: bool
    left_out: list[LeftOut] = field(default_factory=list)

    @made_once
    def session(self) -> Session:
        """The connection that tables are read with."""
        return self.stack.enter_context(open_session(self.settings.dsn("pipeline")))

    def catalog(self, name: str, collections: Sequence[_Held]) -> None:
        """Write what leads to all else, last."""
        links = [{"rel": "root", "href": "./catalog.json", "type": _JSON}]
        links += [
            {"rel": "child", "href": f"./{safe_name(c.name)}/collection.json", "type": _JSON, "title": c.title}
            for c in collections
        ]
        self._write(
            CATALOG,
            {
                "type": "Catalog",
                "stac_version": "1.1.0",
                "id": f"export-of-{name}",
                "title": collections[0].title,
                "description": f"A copy of {' and '.join(c.name for c in collections)}, made by geo-assets export",
                "links": links,
            },
            _JSON,
        )

    def collection(self, held: _Held) -> int:
        """Write a collection and all that belongs to it; returns how many items it has."""
        stored, folder = held.stored, safe_name(held.name)
        links: list[dict[str, Any]] = [
            {"rel": "root", "href": "../catalog.json", "type": _JSON},
            {"rel": "parent", "href": "../catalog.json", "type": _JSON},
            *_links_elsewhere(stored),
        ]
        assets = {key: asset for key, asset in stored.get("assets", {}).items() if key != ITEMS_FILE}
        footprints = self.target.path(f"{folder}/{_FOOTPRINTS}")
        if write_footprints(self.conn, held.footprints, held.title, footprints):
            self.target.put(f"{folder}/{_FOOTPRINTS}", PMTILES)
            assets["footprints"] = {"href": f"./{_FOOTPRINTS}", "type": PMTILES, "roles": ["overview"]}
        count = write_items(self._items(held, folder, links), self.target.path(f"{folder}/items.parquet"))
        if count:
            about = _about(self.target.path(f"{folder}/items.parquet"))
            self.target.put(f"{folder}/items.parquet", PARQUET)
            assets[ITEMS_FILE] = {"href": "./items.parquet", "type": PARQUET, "roles": ["stac-items"], **about}
        whole = {name: value for name, value in stored.items() if name not in {"assets", "stac_extensions"}}
        extensions = [*stored.get("stac_extensions", ()), *([_FILE] if count else [])]
        told = {"assets": assets, "stac_extensions": list(dict.fromkeys(extensions))}
        whole |= {"links": links, **{name: value for name, value in told.items() if value}}
        self._write(f"{folder}/collection.json", whole, _JSON)
        return count

    def _items(self, held: _Held, folder: str, links: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Write each item with its files, and yield it as `items.parquet` has it; links to them go into `links`."""
        around = [
            {"rel": "root", "href": "../../catalog.json", "type": _JSON},
            *({"rel": rel, "href": "../collection.json", "type": _JSON} for rel in ("parent", "collection")),
        ]
        beside = [{"rel": "collection", "href": "./collection.json", "type": _JSON}]
        for line in held.items:
            item, blobs = json.loads(line)
            place = safe_name(item["id"])
            carried = self._carried(item, f"{folder}/{place}", blobs)
            self._write(f"{folder}/{place}/{place}.json", _seen_from(carried, "./", around), _GEOJSON)
            links.append({"rel": "item", "href": f"./{place}/{place}.json", "type": _GEOJSON})
            yield _seen_from(carried, f"./{place}/", beside)
            self.told(item["id"])

    def _carried(self, item: dict[str, Any], folder: str, made: dict[str, str | None]) -> dict[str, Any]:
        """The item, with the names of files beside it as the hrefs of what came along."""
        if self.data is Data.NONE:
            return item
        refs = [BlobRef.parse(name) for name in made]
        blobs = {open_container(self.settings, ref.alias, ref.container).href(ref.path): ref for ref in refs}
        taken = {f"{safe_name(item['id'])}.json".lower()}
        assets, warnings = {}, []
        for key, asset in sorted(item["assets"].items()):
            try:
                if ref := blobs.get(asset["href"]):
                    name = _free(PurePosixPath(ref.path).name, key, taken)
                    assets[key] = self._file(asset, ref, f"{folder}/{name}", made[str(ref)])
                elif match := _TABLE.fullmatch(asset["href"]):
                    if f"{key}-geoparquet" not in item["assets"]:
                        assets[key] = self._table(asset, match["name"], folder, _free(f"{key}.parquet", key, taken))
                else:
                    assets[key] = asset
            except GeoAssetsError as error:
                warnings.append(self._without(item, key, error))
        told = [*item["properties"].get(WARNINGS, ()), *warnings]
        properties = {**item["properties"], **({WARNINGS: told} if told else {})}
        return _without_accounts({**item, "assets": assets, "properties": properties})

    def _without(self, item: dict[str, Any], key: str, error: GeoAssetsError) -> str:
        """Note an asset that is left out; returns how the item says so.

        Raises:
            GeoAssetsError: `error`, where nothing may be left out, or it says nothing of this asset.
        """
        if self.strict or error.code not in {"OUTPUT_DAMAGED", "OUTPUT_GONE"}:
            raise error
        name = f"{item['collection']}/{item['id']}"
        job_id = Published.job_of(self.conn, name)
        remedy = for_job(error.remedy, job_id) if job_id else error.remedy
        self.left_out.append(LeftOut(item=name, asset=key, code=error.code, message=error.message, remedy=remedy))
        why = "is gone" if error.code == "OUTPUT_GONE" else "is not the one that was published"
        return f"asset {key} is not in this export: its file {why} ({error.code})"

    def _file(self, asset: dict[str, Any], ref: BlobRef, path: str, recorded: str | None) -> dict[str, Any]:
        checksum = asset.get("file:checksum", "")
        sha256 = checksum.removeprefix("1220") if checksum.startswith("1220") else recorded
        if self.data is not Data.LINK or not self.target.link(self.settings, ref, path, sha256=sha256):
            self.target.copy(self.settings, ref, path, media_type=asset.get("type", ""), sha256=sha256)
        return {**asset, "href": _Beside(PurePosixPath(path).name)}

    def _table(self, asset: dict[str, Any], table: str, folder: str, name: str) -> dict[str, Any]:
        path = f"{folder}/{name}"
        file = self.target.fresh(path)
        about = {"table:row_count": write_table(self.session, table, file), **_about(file)}
        self.target.put(path, PARQUET)
        return {**asset, "href": _Beside(name), "type": PARQUET, **about}

    def _write(self, path: str, document: dict[str, Any], media_type: str) -> None:
        # items on one line: with an indent the encoder of the standard library takes ten times as long
        indent = None if media_type == _GEOJSON else 2
        text = json.dumps(document, ensure_ascii=False, sort_keys=True, indent=indent)
        self.target.fresh(path).write_text(f"{text}\n", encoding="utf-8")
        self.target.put(path, media_type)


class _Beside(str):
    """The name of a file beside its item."""

    __slots__ = ()


def _about(file: Path) -> dict[str, Any]:
    """The file extension's fields of a file."""
    return {"file:size": file.stat().st_size, "file:checksum": f"1220{sha256_of(file)}"}  # multihash: sha2-256


def _free(name: str, key: str, taken: set[str]) -> str:
    """A name for a file that no other asset of its item has, whatever a file system holds for the same."""
    others = (f"{n}-{name}" for n in numbers(2))
    free = next(n for n in chain((name, f"{safe_name(key)}-{name}"), others) if n.lower() not in taken)
    taken.add(free.lower())
    return free


def _seen_from(item: dict[str, Any], before: str, links: list[dict[str, Any]]) -> dict[str, Any]:
    """The item with hrefs relative to a file from which its folder is `before`."""
    assets = {
        key: {**asset, "href": f"{before}{quote(asset['href'])}"} if isinstance(asset["href"], _Beside) else asset
        for key, asset in item["assets"].items()
    }
    return {**item, "assets": assets, "links": [*links, *_links_elsewhere(item)]}


def _links_elsewhere(thing: dict[str, Any]) -> list[dict[str, Any]]:
    """Links that an export keeps: none to files of this machine, which tell its paths and lead nobody anywhere. What an
    item was made of is in its `processing:lineage`, too.
    """
    return [
        link
        for link in thing.get("links", ())
        if link.get("rel") not in _OWN_LINKS and not str(link.get("href", "")).startswith("file:")
    ]


def _without_accounts(item: dict[str, Any]) -> dict[str, Any]:
    """The item without what tells of accounts, where no asset lies in one any more; each says what it needs."""
    assets = {
        key: {name: value for name, value in asset.items() if name not in {"alternate", "storage:refs"}}
        if isinstance(asset["href"], _Beside)
        else asset
        for key, asset in item["assets"].items()
    }
    extensions = list(item.get("stac_extensions", ()))
    properties = item["properties"]
    if not any("storage:refs" in asset for asset in assets.values()):
        extensions = [url for url in extensions if not any(name in url for name in _OF_ACCOUNTS)]
        properties = {name: value for name, value in properties.items() if name != "storage:schemes"}
    if any("file:checksum" in asset for asset in assets.values()) and _FILE not in extensions:
        extensions.append(_FILE)
    told = {"stac_extensions": extensions} if extensions or "stac_extensions" in item else {}
    return {**item, "assets": assets, "properties": properties, **told}
