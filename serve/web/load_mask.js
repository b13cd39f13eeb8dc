// Reads masks from files: a PNG of the image's size, or COCO run-length encoding in JSON.

import { measure } from "./paint.js";
import { decode, encode } from "./rle.js";

/** The masks of a file, for an image of this size: [{name or null, rle, box}]. */
export async function readMasks(file, { width, height }) {
  const found = isJson(file) ? fromJson(await file.text()) : [{ name: null, rle: await fromPicture(file, width, height) }];
  return found.map(({ name, rle }) => {
    const [rows, columns] = rle.size;
    if (rows !== height || columns !== width) {
      throw new Error(`The mask is ${columns} × ${rows} pixels, but the image is ${width} × ${height}: they must have the same size.`);
    }
    const mask = decode(rle);
    const box = measure(mask, width, height);
    if (box.area === 0) throw new Error("The mask is empty: no pixel is inside.");
    return { name, box, rle: encode(mask, width, height, box) }; // in the server's text form
  });
}

export function isJson(file) {
  return file.type === "application/json" || /\.json$/i.test(file.name ?? "");
}

function isRle(value) {
  return Array.isArray(value?.size) && value.size.length === 2 && value.counts !== undefined;
}

function fromJson(text) {
  let plain;
  try {
    plain = JSON.parse(text);
  } catch {
    throw new Error("The file is not valid JSON.");
  }
  const rle = [plain, plain?.mask, plain?.segmentation].find(isRle);
  if (rle) return [{ name: null, rle }];
  if (Array.isArray(plain?.annotations)) {
    const names = new Map((plain.categories ?? []).map(({ id, name }) => [id, name]));
    const all = plain.annotations.filter(({ segmentation }) => isRle(segmentation));
    const first = all[0]?.image_id; // in a file of several images, take those of the first one
    const found = all.filter(({ image_id: image }) => image === first);
    if (found.length) return found.map((one) => ({ name: names.get(one.category_id) ?? null, rle: one.segmentation }));
  }
  throw new Error('There is no mask in this JSON: expected {"size": [height, width], "counts": ...}, or COCO annotations with RLE.');
}

async function pixelsOf(blob) {
  const image = await createImageBitmap(blob);
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { width, height } = image;
  image.close();
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}

async function fromPicture(blob, width, height) {
  const picture = await pixelsOf(blob);
  const { data } = picture;
  if (picture.width !== width || picture.height !== height) return { size: [picture.height, picture.width], counts: "" };
  let colored = false, brightest = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] !== data[i + 1] || data[i] !== data[i + 2]) colored = true;
    brightest = Math.max(brightest, data[i], data[i + 1], data[i + 2]);
  }
  const mask = new Uint8Array(width * height);
  for (let i = 0, at = 0; i < data.length; i += 4, at++) {
    const value = Math.max(data[i], data[i + 1], data[i + 2]);
    // Grey masks may be soft at the border; in a palette, every color but black is inside.
    mask[at] = data[i + 3] > 127 && value > 0 && (colored || 2 * value >= brightest) ? 1 : 0;
  }
  return encode(mask, width, height, measure(mask, width, height));
}

/** Whether a picture is probably a mask of the open image: it has its size, and only black and one grey. */
export async function looksLikeMask(blob, { width, height }) {
  if (blob.type !== "image/png") return false;
  const picture = await pixelsOf(blob).catch(() => null); // unreadable files are refused when they are opened
  if (!picture || picture.width !== width || picture.height !== height) return false;
  const { data } = picture;
  let white = 0;
  for (let i = 0; i < data.length; i += 4) {
    const value = data[i];
    if (value !== data[i + 1] || value !== data[i + 2]) return false;
    if (value === 0 || value === white) continue;
    if (white) return false;
    white = value;
  }
  return white > 0;
}
