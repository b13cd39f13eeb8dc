// Exports finished objects to files.

import { rgb } from "./paint.js";
import { encodePng } from "./png.js";
import { borders } from "./polygon.js";
import { zip } from "./zip.js";

/**
 * COCO instances JSON of images [{name, width, height, objects}], with one annotation per object and one category per
 * distinct name. Masks are RLE; with `polygons`, those without holes are polygons, which cannot represent holes.
 */
export function cocoJson(images, { polygons = false } = {}) {
  const names = [...new Set(images.flatMap(({ objects }) => objects.map(({ name }) => name)))];
  const annotations = images.flatMap((image, index) => image.objects.map((object) => ({
    image_id: index + 1,
    category_id: names.indexOf(object.name) + 1,
    segmentation: (polygons && asPolygons(image, object)) || object.rle,
    area: object.box.area,
    bbox: [object.box.x, object.box.y, object.box.width, object.box.height],
    iscrowd: 0,
  })));
  return {
    info: { description: "Annotated with Maskwright", date_created: new Date().toISOString() },
    images: images.map(({ name, width, height }, index) => ({ id: index + 1, file_name: name, width, height })),
    categories: names.map((name, index) => ({ id: index + 1, name })),
    annotations: annotations.map((annotation, index) => ({ id: index + 1, ...annotation })),
  };
}

function asPolygons({ width, height }, object) {
  const { outer, holes } = borders(object.read(), width, height, object.box);
  return holes.length === 0 ? outer : null;
}

/** A PNG of one mask: 255 inside, 0 outside. */
export function maskPng(image, mask) {
  return encodePng(mask.map((value) => value * 255), image.width, image.height);
}

/** A PNG of all objects: pixel value = number in the list, later objects over earlier ones, 0 = none. */
export function indexPng(image, objects) {
  if (objects.length > 255) throw new Error("An index PNG holds at most 255 objects: export object PNGs instead.");
  const values = new Uint8Array(image.width * image.height);
  objects.forEach((object, index) => object.read().forEach((inside, i) => { if (inside) values[i] = index + 1; }));
  return encodePng(values, image.width, image.height, [[0, 0, 0], ...objects.map(({ color }) => rgb(color))]);
}

/** A ZIP file with a mask PNG of each object. */
export async function objectsZip(image, stem, objects) {
  const files = [];
  for (const [index, object] of objects.entries()) {
    const png = await maskPng(image, object.read());
    const label = object.name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "object";
    files.push({ name: `${stem}-${String(index + 1).padStart(3, "0")}-${label}.png`, bytes: new Uint8Array(await png.arrayBuffer()) });
  }
  return zip(files);
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
