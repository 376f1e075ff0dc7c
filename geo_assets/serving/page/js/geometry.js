/**
 * Boxes and footprints in degrees.
 * Here: what crosses 180°, sizes, middles. Not here: the map.
 * A box is [west, south, east, north]; west > east where it crosses 180°.
 */

/** [west, south, east, north] of a box of two or three dimensions. */
export const flat = (box) => (box?.length === 6 ? [box[0], box[1], box[3], box[4]] : box);

/** A box in one piece, or in two where it crosses 180°. */
export function halves([west, south, east, north]) {
  return west <= east
    ? [[west, south, east, north]]
    : [
        [west, south, 180, north],
        [-180, south, east, north],
      ];
}

/** A box as a multipolygon of its halves. */
export function boxShape(box) {
  return {
    type: "MultiPolygon",
    coordinates: halves(box).map(([w, s, e, n]) => [
      [
        [w, s],
        [e, s],
        [e, n],
        [w, n],
        [w, s],
      ],
    ]),
  };
}

/** What a geometry consists of, each as a list of points. */
function parts({ type, coordinates, geometries = [] }) {
  switch (type) {
    case "Point":
      return [[coordinates]];
    case "MultiPoint":
      return coordinates.map((point) => [point]);
    case "LineString":
      return [coordinates];
    case "MultiLineString":
      return coordinates;
    case "Polygon":
      return [coordinates[0]];
    case "MultiPolygon":
      return coordinates.map(([outer]) => outer);
    default:
      return geometries.flatMap(parts);
  }
}

/** The smallest box around a geometry, which may be one across 180°; null of one that is empty. */
export function boxOf(geometry) {
  if (!geometry) return null;
  const boxes = parts(geometry)
    .filter((points) => points?.length)
    .map((points) =>
      points.reduce(
        ([w, s, e, n], [x, y]) => [Math.min(w, x), Math.min(s, y), Math.max(e, x), Math.max(n, y)],
        [180, 90, -180, -90],
      ),
    );
  return around(boxes);
}

/** Degrees from west to east. */
export const width = ([west, , east]) => (west <= east ? east - west : east - west + 360);

/** The middle of a box. */
export function middle(box) {
  const x = box[0] + width(box) / 2;
  return [x > 180 ? x - 360 : x, (box[1] + box[3]) / 2];
}

/** The zoom from which a box is so many pixels wide or high, on tiles of 512 pixels. */
export function zoomFor(box, pixels) {
  const degrees = Math.max(
    width(box),
    (box[3] - box[1]) / Math.max(0.1, Math.cos((((box[1] + box[3]) / 2) * Math.PI) / 180)),
  );
  return degrees > 0 ? Math.min(24, Math.max(0, Math.log2((pixels * 360) / (512 * degrees)))) : 24;
}

/** The smallest box around all; across 180° only if that is shorter. */
export function around(boxes) {
  if (!boxes.length) return null;
  const south = Math.min(...boxes.map((box) => box[1]));
  const north = Math.max(...boxes.map((box) => box[3]));
  const starts = boxes.map((box) => [box[0], box[0] + width(box)]).sort((a, b) => a[0] - b[0]);
  let [gap, west, east, reach] = [-1, -180, 180, -Infinity];
  for (const [index, [from, to]] of starts.entries()) {
    if (index && from - reach > gap) [gap, west, east] = [from - reach, from, reach];
    reach = Math.max(reach, to);
  }
  const last = starts[0][0] + 360 - reach; // the gap across 180°
  if (last >= gap) [west, east] = last > 0 ? [starts[0][0], reach] : [-180, 180];
  return [west > 180 ? west - 360 : west, south, east > 180 ? east - 360 : east, north];
}

/** `w,s,e,n` → box, or null. */
export function parseBox(text) {
  const box = (text ?? "").split(",").map(Number);
  const valid =
    box.length === 4 &&
    box.every(Number.isFinite) &&
    box[1] <= box[3] &&
    Math.abs(box[0]) <= 180 &&
    Math.abs(box[2]) <= 180;
  return valid && box[1] >= -90 && box[3] <= 90 ? box : null;
}
