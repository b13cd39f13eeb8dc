// From a mask (Uint8Array of 0 and 1, row by row) to what can be painted.

/** A canvas of the mask's size, the color inside and transparent outside. */
export function tint(mask, width, height, color) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const words = new Uint32Array(picture.data.buffer);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const word = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // little-endian, as every browser machine is
  for (let i = 0; i < mask.length; i++) if (mask[i]) words[i] = word;
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** The border between inside and outside as a path along pixel edges: it stays thin at any zoom. */
export function outlineOf(mask, width, height) {
  const path = new Path2D();
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? mask[y * width + x] : 0);
  trace(height, width, (line, i) => at(i, line - 1) !== at(i, line), (line, from, to) => {
    path.moveTo(from, line);
    path.lineTo(to, line);
  });
  trace(width, height, (line, i) => at(line - 1, i) !== at(line, i), (line, from, to) => {
    path.moveTo(line, from);
    path.lineTo(line, to);
  });
  return path;
}

// Joins neighbouring edges on each line between two rows (or columns) into one stroke.
function trace(numLines, length, isEdge, stroke) {
  for (let line = 0; line <= numLines; line++) {
    let from = -1;
    for (let i = 0; i <= length; i++) {
      const edge = i < length && isEdge(line, i);
      if (edge && from < 0) from = i;
      if (!edge && from >= 0) {
        stroke(line, from, i);
        from = -1;
      }
    }
  }
}
