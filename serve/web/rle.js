// COCO run-length encoding: runs down the columns, zeros first; five bits per character, most runs as differences.

/** Decode {size: [height, width], counts} to a Uint8Array of 0 and 1, row by row. */
export function decode({ size: [height, width], counts }) {
  const mask = new Uint8Array(height * width);
  const runs = unpack(counts);
  let at = 0;
  runs.forEach((run, index) => {
    if (index % 2 === 1) {
      for (let i = at; i < at + run; i++) mask[(i % height) * width + Math.floor(i / height)] = 1;
    }
    at += run;
  });
  if (at !== height * width) throw new Error("the mask from the server is damaged");
  return mask;
}

function unpack(text) {
  const runs = [];
  for (let i = 0; i < text.length; ) {
    let value = 0, factor = 1, digit;
    do {
      digit = text.charCodeAt(i++) - 48;
      value += (digit & 31) * factor; // no shifts: runs may exceed 31 bits
      factor *= 32;
    } while (digit & 32);
    if (digit & 16) value -= factor;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}
