/**
 * The page of an item: what it looks like, what it is, where it came from, how else it is opened.
 * Here: details. Not here: how rasters are drawn (`pictures.js`), tables (`tables.js`).
 */

import { collectionPath, itemPath, json, picture, tilePaths } from "./api.js";
import { link } from "./address.js";
import { copyButton, facts, fill, h, isAddress, when } from "./dom.js";
import { fileLink } from "./files.js";
import { bytes, captured, count, counted, place, sha256, value } from "./format.js";
import { boxOf, flat, middle } from "./geometry.js";
import { rasterPrograms } from "./openwith.js";
import { isSingle, parameters, RAMPS, rasters } from "./pictures.js";
import { tableOf } from "./tables.js";

export async function showItem(panel, { parts: [, collection, id], signal, map, view }) {
  const [item, owner] = await Promise.all([
    json(itemPath(collection, id), { signal }),
    json(collectionPath(collection), { signal }).catch(() => null),
  ]);
  const title = item.properties.title ?? item.id;
  document.title = `${title} – Catalogue`;
  const box = boxOf(item.geometry) ?? flat(item.bbox);
  const raster = rasterPart(item, owner, map, box);
  fill(
    panel,
    h(
      "p",
      { class: "crumbs" },
      h("a", { href: link([]) }, "Catalogue"),
      " › ",
      h("a", { href: link([], { in: collection }) }, owner?.title ?? collection),
    ),
    h("h1", {}, title),
    h("p", { class: "lead" }, captured(item.properties), box && ` · ${place(...middle(box), 2)}`),
    warnings(item),
    raster.picture,
    tablesPart(item),
    h("h2", {}, "About"),
    about(item),
    bandsPart(item),
    raster.programs,
    filesPart(item),
    lineage(item),
    h("p", { class: "quiet" }, fileLink(itemPath(collection, id), "This item as JSON")),
  );
  map.showChosen(item.geometry);
  if (box && !view) map.fit([box]);
}

function warnings(item) {
  const said = item.properties["geo_assets:warnings"] ?? [];
  if (!said.length) return null;
  return h(
    "div",
    { class: "note warn" },
    h("strong", {}, counted(said.length, "remark")),
    h(
      "ul",
      {},
      said.map((text) => h("li", {}, text)),
    ),
  );
}

/** The picture, whether and how it is on the map, and other programs. */
function rasterPart(item, owner, map, box) {
  const all = rasters(item);
  if (!all.length) return { picture: thumbnail(item, null) };
  let [[key, asset]] = all;
  let ramp = "";
  const programs = h("div", { class: "programs" });
  const shown = h("input", { type: "checkbox", checked: true });
  const opacity = h("input", { type: "range", min: 0, max: 100, value: 100 });
  const ramps = h(
    "select",
    {},
    RAMPS.map((name) => h("option", { value: name }, name || "as it is")),
  );
  const rampField = h("label", {}, "Colours ", ramps);
  const assets = h(
    "select",
    {},
    all.map(([name, { title }]) => h("option", { value: name }, title ?? name)),
  );
  const draw = () => {
    const asked = parameters(key, asset, owner, ramp);
    rampField.hidden = !isSingle(asset);
    if (box)
      map.showRaster(shown.checked ? tilePaths(item.collection, item.id, asked).tiles : null, box, opacity.value / 100);
    fill(programs, rasterPrograms(item, key, asked));
  };
  shown.addEventListener("change", draw);
  opacity.addEventListener("input", () => map.setOpacity(opacity.value / 100));
  ramps.addEventListener("change", () => {
    ramp = ramps.value;
    draw();
  });
  assets.addEventListener("change", () => {
    [key, asset] = all.find(([name]) => name === assets.value);
    draw();
  });
  draw();
  return {
    picture: [
      thumbnail(
        item,
        tilePaths(item.collection, item.id, [...parameters(key, asset, owner), ["max_size", 512]]).preview,
      ),
      h(
        "fieldset",
        { class: "controls" },
        h("legend", { class: "unseen" }, "On the map"),
        h("label", { class: "check" }, shown, " Show on the map"),
        h("label", {}, "Opacity ", opacity),
        all.length > 1 && h("label", {}, "Raster ", assets),
        rampField,
      ),
    ],
    programs: [h("h2", {}, "Open with"), programs],
  };
}

/** The thumbnail; if it cannot be shown, or there is none, what the tile server draws. */
export function thumbnail(item, preview) {
  const own = Object.values(item.assets ?? {}).find((asset) => asset.roles?.includes("thumbnail"));
  const candidates = [own?.href, preview].filter(Boolean);
  if (!candidates.length) return null;
  const image = h("img", { alt: `Picture of ${item.properties.title ?? item.id}`, class: "thumbnail", hidden: true });
  const next = () => {
    const href = candidates.shift();
    if (!href) return image.remove();
    picture(href).then((source) => {
      image.src = source;
      image.hidden = false;
    }, next);
  };
  image.addEventListener("error", next);
  next();
  return image;
}

function tablesPart(item) {
  const tables = Object.entries(item.assets ?? {}).filter(([, asset]) => tableOf(asset));
  if (!tables.length) return null;
  return [
    h("h2", {}, "Tables"),
    h(
      "ul",
      { class: "cards" },
      tables.map(([, asset]) =>
        h(
          "li",
          {},
          h(
            "a",
            { class: "card", href: link(["tables", tableOf(asset)]) },
            h("strong", {}, tableOf(asset)),
            h(
              "span",
              { class: "quiet" },
              [
                Number.isFinite(asset["table:row_count"]) && counted(asset["table:row_count"], "row"),
                asset["table:columns"] && counted(asset["table:columns"].length, "column"),
              ]
                .filter(Boolean)
                .join(" · "),
            ),
            h("span", { class: "go" }, "Show its rows and its map"),
          ),
        ),
      ),
    ),
  ];
}

function about({ id, collection, properties, assets }) {
  const of = (name) => properties[name] ?? Object.values(assets ?? {}).find((asset) => asset[name])?.[name];
  const shape = of("proj:shape");
  const from = properties["geo_assets:datetime_from"];
  return facts([
    [
      "Captured",
      [captured(properties), from && from !== "unknown" && h("span", { class: "quiet" }, ` (told by: ${from})`)],
    ],
    ["Coordinate system", of("proj:code") ?? (of("proj:projjson")?.name || null)],
    ["Resolution", properties.gsd && `${value(properties.gsd)} m`],
    ["Pixels", shape && `${count(shape[1])} × ${count(shape[0])}`],
    ["Registered", when(properties.created)],
    ["Last changed", when(properties.updated)],
    ["Collection", collection],
    ["Id", [h("code", {}, id), " ", copyButton(id, "id")]],
  ]);
}

function bandsPart(item) {
  const all = Object.entries(item.assets ?? {}).filter(([, asset]) => asset.bands?.length);
  if (!all.length) return null;
  const heads = ["Band", "Type", "Range", "Mean ± std. dev.", "Valid"];
  return [
    h("h2", {}, "Bands"),
    all.map(([key, asset]) => [
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": `Bands of ${key}` },
        h(
          "table",
          {},
          all.length > 1 && h("caption", {}, asset.title ?? key),
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              heads.map((name) => h("th", { scope: "col" }, name)),
            ),
          ),
          h(
            "tbody",
            {},
            asset.bands.map((band) => bandRow(band, asset)),
          ),
        ),
      ),
      asset.bands.map((band) => legend(band["classification:classes"] ?? [])),
    ]),
  ];
}

/** Classes with the colours that they are drawn in. */
function legend(classes) {
  if (!classes.length) return null;
  return h(
    "ul",
    { class: "legend" },
    classes.slice(0, 64).map(({ value: number, name, title, description, color_hint: colour }) => {
      const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
      if (/^[0-9a-f]{6}$/i.test(colour ?? "")) swatch.style.background = `#${colour}`;
      const said = title ?? description ?? (name === `value-${number}` ? null : name);
      return h("li", {}, swatch, number, said && h("span", { class: "quiet" }, ` ${said}`));
    }),
  );
}

function bandRow({ name, description, data_type: type, unit, nodata, statistics = {} }, asset) {
  const { minimum, maximum, mean, stddev, valid_percent: valid } = statistics;
  const known = (number) => Number.isFinite(number);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, name ?? "–", description && h("span", { class: "quiet" }, ` ${description}`)),
    h(
      "td",
      {},
      type ?? asset.data_type ?? "–",
      unit && ` (${unit})`,
      nodata !== undefined && nodata !== null && h("div", { class: "quiet" }, `nodata ${value(nodata)}`),
    ),
    h("td", {}, known(minimum) ? `${value(minimum)} – ${value(maximum)}` : "–"),
    h("td", {}, known(mean) ? `${value(mean)} ± ${value(stddev)}` : "–"),
    h("td", {}, known(valid) ? `${value(valid)} %` : "–"),
  );
}

/** A hash, with a button to copy it. */
function hash(checksum) {
  if (!checksum) return null;
  const text = sha256(checksum);
  return h(
    "div",
    { class: "hash" },
    h("span", { class: "quiet" }, text === checksum ? "multihash " : "SHA-256 "),
    h("code", {}, text),
    " ",
    copyButton(text, "hash"),
  );
}

/** A link where it can be followed; a table's or another address of a database as text. */
const anchor = (href, text) =>
  isAddress(href) ? fileLink(href, text) : h("span", {}, text, " ", h("code", {}, href));

function filesPart(item) {
  const files = Object.entries(item.assets ?? {}).filter(([, asset]) => !tableOf(asset));
  if (!files.length) return null;
  return [
    h("h2", {}, "Files"),
    h(
      "ul",
      { class: "files" },
      files.map(([key, asset]) =>
        h(
          "li",
          {},
          h(
            "div",
            {},
            anchor(asset.href, asset.title ?? key),
            h(
              "span",
              { class: "quiet" },
              ` ${[bytes(asset["file:size"]), kind(asset.type)].filter(Boolean).join(" · ")}`,
            ),
          ),
          hash(asset["file:checksum"]),
        ),
      ),
    ),
  ];
}

/** A media type in words. */
function kind(type = "") {
  if (type.includes("cloud-optimized")) return "cloud-optimised GeoTIFF";
  return (
    {
      "image/png": "PNG",
      "image/tiff; application=geotiff": "GeoTIFF",
      "application/vnd.apache.parquet": "GeoParquet",
      "application/geo+json": "GeoJSON",
    }[type] ?? type
  );
}

function lineage(item) {
  const sources = (item.links ?? []).filter((found) => found.rel === "derived_from");
  const said = item.properties["processing:lineage"];
  const software = Object.entries(item.properties["processing:software"] ?? {}).map(
    ([name, version]) => `${name} ${version}`,
  );
  if (!said && !sources.length) return null;
  return [
    h("h2", {}, "Lineage"),
    said && h("p", { class: "lineage" }, said),
    !sources.length && hash(said?.match(/\(SHA-256 ([0-9a-f]{64})\)/)?.[1].replace(/^/, "1220")), // as a multihash
    sources.length > 0 &&
      h(
        "ul",
        { class: "files" },
        sources.map((source) =>
          h(
            "li",
            {},
            h(
              "div",
              {},
              anchor(source.href, source.title ?? source.href),
              h("span", { class: "quiet" }, ` source ${bytes(source["file:size"]) ?? ""}`),
            ),
            hash(source["file:checksum"]),
          ),
        ),
      ),
    software.length > 0 && h("p", { class: "quiet" }, `Made with ${software.join(", ")}.`),
  ];
}
