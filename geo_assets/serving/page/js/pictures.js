/**
 * How a raster is drawn: which bands, between which values.
 * Here: parameters of the tile server. Not here: the map.
 */

/** Standard deviations on both sides of the mean between which 96 % of normally distributed values lie. */
const SPREAD = 2.05;

const isRaster = (asset) =>
  /geotiff|image\/tiff|jp2/.test(asset.type ?? "") && !(asset.roles ?? []).includes("thumbnail");

const isShown = (asset) => asset?.roles?.includes("overview") ?? false;

/** The rasters of an item: [[key, asset]]; the first is the one that its thumbnail shows. */
export const rasters = (item) =>
  Object.entries(item.assets ?? {})
    .filter(([, asset]) => isRaster(asset))
    .sort(([, one], [, other]) => isShown(other) - isShown(one));

/** How the mosaic of a collection is drawn: that of its `renders` whose raster the thumbnails show, or the first. */
export function renderOf({ renders, item_assets: assets }) {
  const all = Object.values(renders ?? {});
  return all.find((render) => isShown(assets?.[render.assets?.[0]])) ?? all[0];
}

/** Colour ramps to choose from; the first is what the data are without one. */
export const RAMPS = ["", "viridis", "terrain", "magma", "blues", "rdylgn"];

/** Whether the values are not a picture already, and can be shown in another ramp. */
export const isSingle = (asset) => (asset.bands ?? []).length > 0 && asset.bands.length < 3;

/**
 * The parameters for one asset of an item. What the collection says (`renders`) counts where it has colours of its own, or where
 * there is no item: what lies between the values of one item is seen best between its own limits.
 */
export function parameters(key, asset, collection, ramp = "") {
  const said = Object.values(collection?.renders ?? {}).find(({ assets }) => assets?.length === 1 && assets[0] === key);
  if (said && !ramp && (!asset.bands?.length || said.colormap || said.colormap_name)) return ofRender(key, said);
  const bands = asset.bands ?? [];
  const shown = bands.length >= 3 ? [0, 1, 2] : [0];
  const pairs = [["assets", bands.length > 1 ? `${key}|bidx=${shown.map((band) => band + 1)}` : key]];
  if (!shown.every((band) => bands[band]?.data_type === "uint8")) {
    for (const band of shown) {
      const range = stretch(bands[band]?.statistics);
      if (range) pairs.push(["rescale", range.join(",")]);
    }
  }
  if (ramp && isSingle(asset)) {
    if (!pairs.some(([name]) => name === "rescale"))
      pairs.push(["rescale", (stretch(bands[0]?.statistics) ?? [0, 255]).join(",")]);
    pairs.push(["colormap_name", ramp]);
  }
  return pairs;
}

/** What a `renders` of a collection says, as parameters. */
function ofRender(key, render) {
  const pairs = [["assets", render.bidx?.length ? `${key}|bidx=${render.bidx}` : key]];
  for (const range of render.rescale ?? []) pairs.push(["rescale", range.join(",")]);
  if (render.colormap_name) pairs.push(["colormap_name", render.colormap_name]);
  if (render.colormap) pairs.push(["colormap", JSON.stringify(render.colormap)]);
  if (render.nodata !== undefined && render.nodata !== null) pairs.push(["nodata", render.nodata]);
  return pairs;
}

/** From where to where most values lie. */
function stretch(statistics) {
  const { minimum, maximum, mean, stddev } = statistics ?? {};
  if (![minimum, maximum].every(Number.isFinite)) return null;
  if (![mean, stddev].every(Number.isFinite) || stddev === 0)
    return [minimum, maximum > minimum ? maximum : minimum + 1];
  return [Math.max(minimum, mean - SPREAD * stddev), Math.min(maximum, mean + SPREAD * stddev)];
}
