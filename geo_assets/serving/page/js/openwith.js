/**
 * "Open with": the addresses and lines with which other programs open what is shown.
 * Here: texts to copy and links. Not here: running anything.
 */

import { FEATURES, ORIGIN, STAC, tablePath, tableTiles, tilePaths, token } from "./api.js";
import { copyable, h } from "./dom.js";

/** A quoted string of Python, SQL identifiers, a word of a shell. */
const python = (text) => JSON.stringify(text);
const identifier = (name) =>
  name
    .split(".")
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join(".");
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const section = (title, ...children) => h("details", { class: "program" }, h("summary", {}, title), children);

/** What GDAL, and QGIS started after it, needs where callers show a token. The token itself is not shown. */
const bearer = () => token() && copyable("First, your token", "export GDAL_HTTP_BEARER=TOKEN", "For QGIS, too: start it there.");

/** Another site, in a tab of its own that knows nothing of this one. */
const elsewhere = (href, ...children) => h("a", { href, target: "_blank", rel: "noopener noreferrer" }, children);

/** Of a raster: its item, the key of its asset, and the parameters with which it is drawn here. */
export function rasterPrograms(item, key, parameters) {
  const asset = item.assets[key];
  const { tiles, wmts } = tilePaths(item.collection, item.id, parameters);
  const xyz = `${ORIGIN}${tiles}`;
  const place = new URL(asset.href, location.href).href;
  const title = item.properties.title ?? item.id;
  return [
    section(
      "QGIS",
      copyable(
        "Raster, full resolution",
        `/vsicurl/${place}`,
        "Layer › Add Layer › Add Raster Layer, as the name of the data set.",
      ),
      copyable("XYZ tiles", xyz, "Browser › XYZ Tiles › New Connection."),
      copyable("WMTS", `${ORIGIN}${wmts}`, "Layer › Add Layer › Add WMS/WMTS Layer."),
      copyable("The catalogue", `${ORIGIN}${STAC}`, "Layer › Data Source Manager › STAC, QGIS 3.40 and later."),
    ),
    section(
      "OpenStreetMap editors",
      h(
        "p",
        {},
        elsewhere(
          `https://www.openstreetmap.org/edit?editor=id#background=${encodeURIComponent(`custom:${xyz}`)}`,
          "Open in iD",
        ),
        " – as the background of the editor on openstreetmap.org.",
      ),
      h(
        "p",
        {},
        elsewhere(
          `http://127.0.0.1:8111/imagery?${new URLSearchParams({ title, type: "tms", url: xyz.replace("{z}", "{zoom}") })}`,
          "Open in JOSM",
        ),
        " – if it runs on this machine with remote control switched on.",
      ),
      copyable("Address for both", xyz.replace("{z}", "{zoom}")),
    ),
    section("XYZ and WMTS", copyable("XYZ tiles", xyz), copyable("WMTS", `${ORIGIN}${wmts}`)),
    section(
      "Python",
      copyable(
        "Python",
        [
          "# pip install pystac-client odc-stac",
          "import odc.stac",
          "import pystac_client",
          "",
          `catalogue = pystac_client.Client.open(${python(`${ORIGIN}${STAC}`)})`,
          `item = next(catalogue.search(collections=[${python(item.collection)}], ids=[${python(item.id)}]).items())`,
          `pixels = odc.stac.load([item], bands=[${python(key)}])`,
        ].join("\n"),
      ),
    ),
    section("GDAL", bearer(), copyable("Command", `gdalinfo ${shell(`/vsicurl/${place}`)}`)),
  ];
}

/** Of a table: schema.name. */
export function tablePrograms(table) {
  const features = `${ORIGIN}${tablePath(table)}/items`;
  return [
    section(
      "QGIS",
      copyable("OGC API – Features", `${ORIGIN}${FEATURES}`, "Layer › Add Layer › Add WFS / OGC API – Features Layer."),
      copyable("Vector tiles", `${ORIGIN}${tableTiles(table)}`, "Browser › Vector Tiles › New Generic Connection."),
    ),
    section(
      "psql",
      copyable(
        "Command",
        `geo-assets psql -c ${shell(`select * from ${identifier(table)} limit 10`)}`,
        "Where the stack runs, as the read-only role.",
      ),
      copyable("SQL", `select count(*), ST_Extent(geom) from ${identifier(table)};`),
    ),
    section(
      "Python",
      copyable(
        "Python",
        [
          "# pip install geopandas",
          "import geopandas",
          "",
          `table = geopandas.read_file(${python(`${features}?f=geojson&limit=1000`)})`,
        ].join("\n"),
      ),
    ),
    section(
      "GDAL",
      bearer(),
      copyable("Command", `ogrinfo -so ${shell(`OAPIF:${ORIGIN}${FEATURES}`)} ${shell(table)}`),
      copyable("Addresses", `${features}?f=geojson`),
    ),
  ];
}
