// Several files in one download: a ZIP without compression, because PNG files are compressed already.

import { crc } from "./png.js";

/** files: [{name, bytes: Uint8Array}]; returns a Blob. */
export function zip(files) {
  const parts = [], directory = [];
  let at = 0;
  for (const { name, bytes } of files) {
    const encoded = new TextEncoder().encode(name);
    const shared = record(26, (view) => {
      view.setUint16(0, 20, true);          // required version
      view.setUint16(2, 0x0800, true);      // names are UTF-8
      view.setUint16(8, 0x21, true);        // 1 January 1980, because the files have no time
      view.setUint32(10, crc(bytes), true);
      view.setUint32(14, bytes.length, true);
      view.setUint32(18, bytes.length, true);
      view.setUint16(22, encoded.length, true);
    });
    parts.push(signed(0x04034b50), shared, encoded, bytes);
    const where = record(14, (view) => view.setUint32(10, at, true));
    directory.push(signed(0x02014b50), Uint8Array.of(20, 0), shared, where, encoded);
    at += 30 + encoded.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(18, (view) => {
    view.setUint16(4, files.length, true);
    view.setUint16(6, files.length, true);
    view.setUint32(8, size, true);
    view.setUint32(12, at, true);
  });
  return new Blob([...parts, ...directory, signed(0x06054b50), end], { type: "application/zip" });
}

function record(length, fill) {
  const bytes = new Uint8Array(length);
  fill(new DataView(bytes.buffer));
  return bytes;
}

function signed(value) {
  return record(4, (view) => view.setUint32(0, value, true));
}
