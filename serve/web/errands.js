// Changes of finished objects, as a session takes them to the server between clicks. `clicks` and `base`: those of the
// object at hand afterwards, where they change. `needs`: an object that the server must know. `rebuild`: where it cannot be
// made, the session is made again, which leads to the same.

const request = (kind, body = {}, method = "POST") => ({ kind, body, method });
const numbered = (object) => ({ objects }) => { object.number = objects.at(-1).number; };

/** The object at hand is finished. */
export const finish = (object) => ({
  object, clicks: [], base: null, done: numbered(object),
  request: () => request("finish", { label: object.name }),
});

/** Each part of the mask at hand is an object; done({objects}) gets all of the session. */
export const finishParts = (label, done, failed) => ({
  clicks: [], base: null, done, failed,
  request: () => request("finish", { label, parts: true }),
});

/** A finished object that the server does not know. */
export const add = (object) => ({
  object, done: numbered(object),
  request: () => request("objects", {
    mask: object.rle, label: object.name, clicks: object.clicks,
    initial_mask: object.base?.mask ?? null, exemplar: object.base?.exemplar ?? null,
  }),
});

export const drop = (object) => ({ needs: object, request: () => request(`objects/${object.number}`, {}, "DELETE") });

/** A finished object is the one at hand again. */
export const edit = (object) => ({
  needs: object, rebuild: true, brings: true, clicks: object.clicks, base: object.base ?? null,
  done: () => { object.number = null; },
  request: () => request(`objects/${object.number}/edit`),
});

/** The object at hand is all others of a finished one's kind. */
export const recall = (object, failed) => ({
  needs: object, rebuild: true, failed, clicks: [], base: { exemplar: { mask: object.rle, clicks: object.clicks } },
  request: () => request("recall", { number: object.number }),
});

export const clear = () => ({ clicks: [], request: () => request("clear") });
