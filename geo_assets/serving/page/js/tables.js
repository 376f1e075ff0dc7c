/**
 * The page of a table: its features on the map as vector tiles, the attributes of the one that is chosen, its first rows.
 * Here: tables of the feature service. Not here: items that lead to them (`item.js`).
 */

import { API, json, path, tablePath, tableTiles } from "./api.js";
import { link } from "./address.js";
import { facts, fill, h, say } from "./dom.js";
import { counted, value } from "./format.js";
import { boxOf, flat } from "./geometry.js";
import { tablePrograms } from "./openwith.js";

/** Rows that are listed; the rest is on the map and in other programs. */
const ROWS = 20;

/** schema.name of the table that an asset is, or null. Its address has `?table=`, or is one of the feature service. */
export function tableOf(asset) {
  const found =
    /[?&]table=([^&]+)/.exec(asset.href ?? "") ?? /\/features\/collections\/([^/?]+)/.exec(asset.href ?? "");
  return found ? decodeURIComponent(found[1]) : null;
}

/** The way back: over the item that the table belongs to, where a job published it. */
function crumbs({ stac_item: item, source }) {
  const [collection, ...id] = (item ?? "").split("/");
  return h(
    "p",
    { class: "crumbs" },
    h("a", { href: link([]) }, "Catalogue"),
    id.length
      ? [
          " › ",
          h("a", { href: link([], { in: collection }) }, collection),
          " › ",
          h("a", { href: link(["items", collection, id.join("/")]) }, source),
        ]
      : " › Tables",
  );
}

export async function showTable(panel, { parts: [, table], signal, map, view }) {
  document.title = `${table} – Catalogue`;
  const [about, rows, owner] = await Promise.all([
    json(`${tablePath(table)}?f=json`, { signal }),
    json(`${tablePath(table)}/items?f=geojson&limit=${ROWS}`, { signal, exact: true }),
    json(`${API}/db/tables/${path(table)}`, { signal }).catch(() => ({})), // the way back is an extra
  ]);
  const chosen = h(
    "section",
    { id: "feature", "aria-live": "polite", "aria-label": "Chosen feature" },
    h("p", { class: "quiet" }, "Choose a feature on the map, or a row below, to see its attributes."),
  );
  const total = rows.numberMatched;
  fill(
    panel,
    crumbs(owner),
    h("h1", {}, table),
    h("p", { class: "lead" }, Number.isFinite(total) ? counted(total, "row") : null),
    about.description && about.description !== table && h("p", {}, about.description),
    h("h2", {}, "Feature"),
    chosen,
    h("h2", {}, Number.isFinite(total) && total > ROWS ? `First ${ROWS} rows` : "Rows"),
    rowsPart(rows.features ?? [], (feature) => {
      latest = null;
      map.showChosen(feature.geometry);
      const box = boxOf(feature.geometry);
      if (box) map.fit([box], { most: 12 });
      showFeature(chosen, feature.properties);
    }),
    h("h2", {}, "Open with"),
    h("div", { class: "programs" }, tablePrograms(table)),
  );
  map.showTable(tableTiles(table));
  const box = flat(about.extent?.spatial?.bbox?.[0]);
  if (box && !view) map.fit([box]);
  const key = keyOf(rows.features ?? []);
  return {
    feature: (properties) => {
      latest = null;
      showFeature(chosen, properties);
      if (key && isExact(properties[key]))
        complete(`${tablePath(table)}/items/${path(String(properties[key]))}?f=geojson`, { signal, map, chosen });
    },
  };
}

/** The column that holds the ids of features, if there is one. */
function keyOf(features) {
  const [first] = features;
  if (first?.id === undefined) return null;
  const isKey = (name) => features.every(({ id, properties }) => String(properties[name]) === String(id));
  return Object.keys(first.properties).find(isKey) ?? null;
}

/** The feature that is chosen last: answers about those before it are late. */
let latest = null;

/** Draw and tell the whole of a feature; a tile has only what lies in it, and no large number, which is better than nothing. */
async function complete(address, { signal, map, chosen }) {
  latest = address;
  const feature = await json(address, { signal, exact: true }).catch(() => null);
  if (!feature || signal.aborted || latest !== address) return;
  map.showChosen(feature.geometry);
  showFeature(chosen, feature.properties);
}

/** Whether a number is the one that the table has; beyond 2^53 a tile has the next one that JavaScript knows. */
const isExact = (found) => typeof found !== "number" || !Number.isInteger(found) || Number.isSafeInteger(found);

function showFeature(chosen, properties) {
  const pairs = Object.entries(properties).map(([name, found]) => [name, cell(found)]);
  fill(chosen, facts(pairs) ?? h("p", { class: "quiet" }, "It has no attributes."));
  say(
    `Feature: ${pairs
      .map(([name, found]) => `${name} ${found}`)
      .slice(0, 3)
      .join(", ")}`,
  );
}

const cell = (found) =>
  found === null || found === undefined
    ? "–"
    : typeof found === "object"
      ? JSON.stringify(found, (_, part) => (typeof part === "bigint" ? String(part) : part))
      : typeof found === "number"
        ? Number.isInteger(found)
          ? `${isExact(found) ? "" : "≈ "}${found}`
          : value(found)
        : String(found);

function rowsPart(features, choose) {
  if (!features.length) return h("p", { class: "quiet" }, "There is no row.");
  const columns = [...new Set(features.flatMap((feature) => Object.keys(feature.properties)))];
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, h("span", { class: "unseen" }, "Choose")),
          columns.map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        features.map((feature, index) =>
          h(
            "tr",
            {},
            h(
              "td",
              {},
              h(
                "button",
                {
                  type: "button",
                  class: "small",
                  "aria-label": `Show row ${index + 1} on the map`,
                  onclick: () => choose(feature),
                },
                "Show",
              ),
            ),
            columns.map((name) =>
              h(
                "td",
                { class: /number|bigint/.test(typeof feature.properties[name]) && "number" },
                cell(feature.properties[name]),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
