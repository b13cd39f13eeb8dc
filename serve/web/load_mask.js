// Masks from files: a PNG of the image's size, or COCO run-length encoding in JSON. They become {rle, box}.

import { measure } from "./paint.js";
import { decode, encode } from "./rle.js";

/** What a file holds: [{name or null, rle, box}], of masks that fit an image of this size. */
export async function readMasks(file, { width, height }) {
  const found = isJson(file) ? fromJson(await file.text()) : [{ name: null, rle: await fromPicture(file, width, height) }];
  return found.map(({ name, rle }) => {
    const [rows, columns] = rle.size;
    if (rows !== height || columns !== width) {
      throw new Error(`the mask is ${columns} × ${rows}, the image ${width} × ${height}: they must be the same size`);
    }
    const mask = decode(rle);
    const box = measure(mask, width, height);
    if (box.area === 0) throw new Error("the mask is empty: nothing in it is inside");
    return { name, box, rle: encode(mask, width, height, box) }; // the text is what the server reads
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
    throw new Error("this is no JSON");
  }
  const rle = [plain, plain?.mask, plain?.segmentation].find(isRle);
  if (rle) return [{ name: null, rle }];
  if (Array.isArray(plain?.annotations)) {
    const names = new Map((plain.categories ?? []).map(({ id, name }) => [id, name]));
    const all = plain.annotations.filter(({ segmentation }) => isRle(segmentation));
    const first = all[0]?.image_id; // a file of several images: the first one's
    const found = all.filter(({ image_id: image }) => image === first);
    if (found.length) return found.map((one) => ({ name: names.get(one.category_id) ?? null, rle: one.segmentation }));
  }
  throw new Error('no mask in this JSON: expected {"size": [height, width], "counts": ...}, or COCO annotations with such');
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
    // Grey may be soft at the border; a palette's colors say nothing but inside.
    mask[at] = data[i + 3] > 127 && value > 0 && (colored || 2 * value >= brightest) ? 1 : 0;
  }
  return encode(mask, width, height, measure(mask, width, height));
}

/** Whether a picture is rather a mask for the open image than another image: its size, and black and one grey alone. */
export async function looksLikeMask(blob, { width, height }) {
  if (blob.type !== "image/png") return false;
  const picture = await pixelsOf(blob).catch(() => null); // what cannot be read is refused where it is opened
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
