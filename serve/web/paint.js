// Turns a mask (Uint8Array of 0 and 1, row by row) into canvases and paths, working only within the mask's box.

/** The smallest box around the mask, and its area in pixels; a box of width 0 if the mask is empty. */
export function measure(mask, width, height) {
  let left = width, right = -1, top = height, bottom = -1, area = 0;
  for (let y = 0; y < height; y++) {
    const row = y * width;
    const first = mask.indexOf(1, row);
    if (first < 0) break;
    if (first >= row + width) { y = Math.floor(first / width) - 1; continue; }
    if (top === height) top = y;
    bottom = y;
    for (let i = first; i < row + width; i++) area += mask[i];
    left = Math.min(left, first - row);
    right = Math.max(right, mask.lastIndexOf(1, row + width - 1) - row);
  }
  if (area === 0) return { x: 0, y: 0, width: 0, height: 0, area };
  return { x: left, y: top, width: right - left + 1, height: bottom - top + 1, area };
}

export function rgb(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
}

/** One pixel of an ImageData's buffer as a 32-bit word, little-endian like all machines that run browsers. */
export function word([red, green, blue], alpha = 255) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** A canvas of width x height whose pixels `fill(words)` sets. */
export function painted(width, height, fill) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(width, 1);
  canvas.height = Math.max(height, 1);
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  fill(new Uint32Array(picture.data.buffer));
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** A canvas of the box's size, the color inside and transparent outside. */
export function tint(mask, width, box, color) {
  const value = word(rgb(color));
  return painted(box.width, box.height, (words) => {
    for (let y = 0; y < box.height; y++) {
      const from = (box.y + y) * width + box.x;
      for (let x = 0; x < box.width; x++) if (mask[from + x]) words[y * box.width + x] = value;
    }
  });
}

/** The border between inside and outside as a path along pixel edges, which stays thin at any zoom. */
export function outlineOf(mask, width, height, box) {
  const path = new Path2D();
  const right = box.x + box.width, bottom = box.y + box.height;
  // Adjacent edges between two rows (then columns) are joined into one stroke.
  for (let y = box.y; y <= bottom; y++) {
    const above = y > 0 ? (y - 1) * width : -1, below = y < height ? y * width : -1;
    let from = -1;
    for (let x = box.x; x <= right; x++) {
      const edge = x < right && (above < 0 ? 0 : mask[above + x]) !== (below < 0 ? 0 : mask[below + x]);
      if (edge && from < 0) from = x;
      else if (!edge && from >= 0) {
        path.moveTo(from, y);
        path.lineTo(x, y);
        from = -1;
      }
    }
  }
  for (let x = box.x; x <= right; x++) {
    let from = -1;
    for (let y = box.y; y <= bottom; y++) {
      const row = y * width + x;
      const edge = y < bottom && (x > 0 ? mask[row - 1] : 0) !== (x < width ? mask[row] : 0);
      if (edge && from < 0) from = y;
      else if (!edge && from >= 0) {
        path.moveTo(x, from);
        path.lineTo(x, y);
        from = -1;
      }
    }
  }
  return path;
}
