// COCO run-length encoding: runs along columns, zeros first; five bits per character, most runs as differences.

/** Decode {size: [height, width], counts} to a Uint8Array of 0 and 1, row by row; counts: text, or a list of runs. */
export function decode({ size: [height, width], counts }) {
  const mask = new Uint8Array(height * width);
  const runs = typeof counts === "string" ? unpack(counts) : counts;
  let at = 0, x = 0, y = 0;
  runs.forEach((run, index) => {
    at += run;
    if (!(run >= 0) || at > mask.length) throw new Error("The mask is damaged: its runs do not fit its size.");
    if (index % 2 === 0) {
      x += Math.floor((y + run) / height);
      y = (y + run) % height;
      return;
    }
    for (let left = run; left > 0; ) {
      const down = Math.min(left, height - y);
      for (let i = y * width + x, end = i + down * width; i < end; i += width) mask[i] = 1;
      left -= down;
      y += down;
      if (y === height) { y = 0; x++; }
    }
  });
  if (at !== mask.length) throw new Error("The mask is damaged: its runs do not fill its size.");
  return mask;
}

/** Encode a mask whose inside is within the box {x, y, width, height}. */
export function encode(mask, width, height, box) {
  const runs = [];
  let value = 0, run = box.x * height;
  for (let x = box.x; x < box.x + box.width; x++) {
    for (let y = 0; y < height; y++) {
      const inside = mask[y * width + x];
      if (inside !== value) {
        runs.push(run);
        value = inside;
        run = 0;
      }
      run++;
    }
  }
  const rest = (width - box.x - box.width) * height;
  if (value === 0) runs.push(run + rest);
  else if (rest) runs.push(run, rest);
  else runs.push(run);
  return { size: [height, width], counts: pack(runs) };
}

function pack(runs) {
  let text = "";
  runs.forEach((run, index) => {
    let value = index > 2 ? run - runs[index - 2] : run;
    for (let more = true; more; ) {
      const digit = ((value % 32) + 32) % 32; // no bit operations: runs may exceed 31 bits
      value = Math.floor(value / 32);
      more = digit & 16 ? value !== -1 : value !== 0;
      text += String.fromCharCode(48 + digit + (more ? 32 : 0));
    }
  });
  return text;
}

function unpack(text) {
  const runs = [];
  for (let i = 0; i < text.length; ) {
    let value = 0, factor = 1, digit;
    do {
      digit = text.charCodeAt(i++) - 48;
      value += (digit & 31) * factor;
      factor *= 32;
    } while (digit & 32);
    if (digit & 16) value -= factor;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}
