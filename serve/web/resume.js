// Work that was left, by a reload, a crash or the way through the folder, taken up from the server and the browser.

import * as api from "./api.js";
import { decode } from "./rle.js";
import * as works from "./works.js";

/** The server's finished objects as the list has them, looking as the browser remembers. colorOf(place): where it does not. */
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
    const begun = body.initial_mask || body.exemplar;
    return {
      number, rle, clicks, key: rle, read: () => decode(rle), box: { x, y, width, height, area },
      base: begun ? { mask: body.initial_mask, exemplar: body.exemplar } : null,
      name: name ?? (label || `Object ${number}`), color: color ?? colorOf(at), visible: visible ?? true,
    };
  });
}

/** The works that the server still has and no other tab: [{work, objects, told}]; `lost`: names of those it has not. */
export async function recall(colorOf) {
  const patient = works.opened() !== null;
  const lost = [];
  const found = await Promise.all(works.all().map(async (work) => {
    try {
      const told = await api.sessionState(work.id);
      if (!(await works.claim(work.id, patient))) return null;
      return { work, told, objects: dressed(await api.objects(work.id), work, colorOf) };
    } catch (error) {
      if (!error.lost) throw error;
      works.forget(work.id);
      lost.push(work.name);
      return null;
    }
  }));
  return { found: found.filter(Boolean), lost };
}

/** Let a session take up what the server has under an id; false if it has it no longer. */
export async function revive(session, id, objects) {
  try {
    const told = await api.sessionState(id);
    const begun = told.initial_mask || told.exemplar;
    const rle = told.clicks.length || begun ? await api.mask(id) : null;
    const answer = rle && { sequence: told.sequence, pixels: decode(rle), honoured: null, num_clicks: told.clicks.length, model_version: told.model_version };
    session.adopt(told, {
      ...agreed(told.clicks, works.get(id)?.clicks), objects, answer,
      base: begun ? { mask: told.initial_mask, exemplar: told.exemplar } : null,
      settings: settingsOf(told),
    });
    return true;
  } catch (error) {
    if (!error.lost) throw error;
    works.forget(id);
    return false;
  }
}

// Clicks that had not reached the server yet are made after all.
function agreed(clicks, remembered = []) {
  const same = (a, b) => b && a.x === b.x && a.y === b.y && a.positive === b.positive;
  const more = remembered.length > clicks.length && clicks.every((click, place) => same(click, remembered[place]));
  return more ? { clicks, wanted: [...clicks, ...remembered.slice(clicks.length)] } : { clicks };
}

function settingsOf({ model, refinement, mask_threshold: threshold }) {
  const given = { model, refinement, mask_threshold: threshold };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
}

/** Sessions end when they are not used: ask for these now and then. ids() gives them. */
export function keepAlive(ids, everyMs) {
  return setInterval(() => {
    for (const id of ids()) api.sessionState(id).catch(() => {}); // what it may say is said where the session is used
  }, everyMs);
}
