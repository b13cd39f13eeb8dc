// Finished objects to files.

import { encodePng } from "./png.js";

/** COCO instances JSON: one image, one RLE annotation per object, one category per distinct name. */
export function cocoJson(image, objects) {
  const names = [...new Set(objects.map((object) => object.name))];
  return {
    info: { description: "Annotated with Maskwright", date_created: new Date().toISOString() },
    images: [{ id: 1, file_name: image.name, width: image.width, height: image.height }],
    categories: names.map((name, index) => ({ id: index + 1, name })),
    annotations: objects.map((object, index) => ({
      id: index + 1,
      image_id: 1,
      category_id: names.indexOf(object.name) + 1,
      segmentation: object.rle,
      area: object.area,
      bbox: object.bbox,
      iscrowd: 0,
    })),
  };
}

/** One mask: 255 inside, 0 outside. */
export function maskPng(image, mask) {
  return encodePng(mask.map((value) => value * 255), image.width, image.height);
}

/** All objects: pixel value = number in the list, later objects over earlier ones, 0 = none. */
export function indexPng(image, objects) {
  if (objects.length > 255) throw new Error("an index PNG holds at most 255 objects");
  const values = new Uint8Array(image.width * image.height);
  objects.forEach(({ mask }, index) => mask.forEach((inside, i) => { if (inside) values[i] = index + 1; }));
  const rgb = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return encodePng(values, image.width, image.height, [[0, 0, 0], ...objects.map(({ color }) => rgb(color))]);
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
