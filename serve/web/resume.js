// Restores work after a reload, a crash or a move through the folder, from the server and the browser.

import * as api from "./api.js";
import { decode } from "./rle.js";
import * as works from "./works.js";

/** The server's finished objects for the list, with the remembered names and colors; colorOf(place): for all others. */
export function dressed(bodies, work, colorOf) {
  const look = work?.look ?? [];
  const place = ({ number }) => {
    const at = look.findIndex((each) => each.number === number);
    return at < 0 ? Infinity : at;
  };
  const sorted = bodies.map((body, at) => ({ body, at, place: place(body) }));
  sorted.sort((a, b) => (a.place === b.place ? a.at - b.at : a.place - b.place));
  return sorted.map(({ body }, at) => {
    const { name, color, visible } = look.find(({ number }) => number === body.number) ?? {};
    const { number, label, mask: rle, clicks, area, bbox_xywh: [x, y, width, height] } = body;
    const hasBase = body.initial_mask || body.exemplar;
    return {
      number, rle, clicks, key: rle, read: () => decode(rle), box: { x, y, width, height, area },
      base: hasBase ? { mask: body.initial_mask, exemplar: body.exemplar } : null,
      name: name ?? (label || `Object ${number}`), color: color ?? colorOf(at), visible: visible ?? true,
    };
  });
}

/** The works that the server still has and no other tab uses: [{work, objects, info}]; `lost`: names of the others. */
export async function recall(colorOf) {
  const patient = works.opened() !== null;
  const lost = [];
  const found = await Promise.all(works.all().map(async (work) => {
    try {
      const info = await api.sessionState(work.id);
      if (!(await works.claim(work.id, patient))) return null;
      return { work, info, objects: dressed(await api.objects(work.id), work, colorOf) };
    } catch (error) {
      if (!error.lost) throw error;
      works.forget(work.id);
      lost.push(work.name);
      return null;
    }
  }));
  return { found: found.filter(Boolean), lost };
}

/** Connect a session to the one that the server has under an id; false if it no longer has it. */
export async function revive(session, id, objects) {
  try {
    const info = await api.sessionState(id);
    const hasBase = info.initial_mask || info.exemplar;
    const rle = info.clicks.length || hasBase ? await api.mask(id) : null;
    const answer = rle && { sequence: info.sequence, pixels: decode(rle), honoured: null, num_clicks: info.clicks.length, model_version: info.model_version };
    session.adopt(info, {
      ...agreed(info.clicks, works.get(id)?.clicks), objects, answer,
      base: hasBase ? { mask: info.initial_mask, exemplar: info.exemplar } : null,
      settings: settingsOf(info),
    });
    return true;
  } catch (error) {
    if (!error.lost) throw error;
    works.forget(id);
    return false;
  }
}

// Clicks that had not reached the server are added to those that had.
function agreed(clicks, remembered = []) {
  const same = (a, b) => b && a.x === b.x && a.y === b.y && a.positive === b.positive;
  const more = remembered.length > clicks.length && clicks.every((click, place) => same(click, remembered[place]));
  return more ? { clicks, wanted: [...clicks, ...remembered.slice(clicks.length)] } : { clicks };
}

function settingsOf({ model, refinement, mask_threshold: threshold }) {
  const given = { model, refinement, mask_threshold: threshold };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
}

/** Read the sessions ids() periodically, because unused sessions expire. */
export function keepAlive(ids, everyMs) {
  return setInterval(() => {
    for (const id of ids()) api.sessionState(id).catch(() => {}); // errors are shown when the session is used
  }, everyMs);
}
