// Traces the borders of a mask as polygons along pixel edges, for formats without run lengths.

// The four directions along the edges, each with the offset of the pixel on its right, which is always inside.
const WAYS = [[1, 0, 0, 0], [0, 1, -1, 0], [-1, 0, -1, -1], [0, -1, 0, -1]];

/** All closed borders as flat lists x, y, x, y...: {outer, holes}. Diagonal neighbours are not connected. */
export function borders(mask, width, height, box) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] === 1;
  const seen = new Set(); // upper edges that are already part of a border
  const outer = [], holes = [];
  for (let y = box.y; y < box.y + box.height; y++) {
    for (let x = box.x; x < box.x + box.width; x++) {
      if (!inside(x, y) || inside(x, y - 1) || seen.has(y * width + x)) continue;
      const ring = follow(inside, x, y, (column, row) => seen.add(row * width + column));
      (signedArea(ring) > 0 ? outer : holes).push(ring);
    }
  }
  return { outer, holes };
}

function follow(inside, startX, startY, onUpperEdge) {
  const ring = [];
  let x = startX, y = startY, way = 0;
  do {
    const [dx, dy] = WAYS[way];
    if (way === 0) onUpperEdge(x, y);
    x += dx;
    y += dy;
    // Turn right if the pixel ahead on the right is outside, left if the one ahead on the left is inside.
    const right = WAYS[way], left = WAYS[(way + 3) % 4];
    const next = !inside(x + right[2], y + right[3]) ? (way + 1) % 4
      : inside(x + left[2], y + left[3]) ? (way + 3) % 4 : way;
    if (next !== way) ring.push(x, y);
    way = next;
  } while (x !== startX || y !== startY || way !== 0);
  return ring;
}

function signedArea(ring) {
  let sum = 0;
  for (let i = 0; i < ring.length; i += 2) {
    const j = (i + 2) % ring.length;
    sum += ring[i] * ring[j + 1] - ring[j] * ring[i + 1];
  }
  return sum / 2;
}
