// Changes of finished objects, which a session sends to the server between clicks. `clicks` and `base`: those of the current
// object afterwards, if they change. `needs`: an object that the server must know. `rebuild`: if the change fails, the
// session is rebuilt, which has the same result.

const request = (kind, body = {}, method = "POST") => ({ kind, body, method });
const numbered = (object) => ({ objects }) => { object.number = objects.at(-1).number; };

/** Finish the current object. */
export const finish = (object) => ({
  object, clicks: [], base: null, done: numbered(object),
  request: () => request("finish", { label: object.name }),
});

/** Make each part of the current mask an object; done({objects}) receives all objects of the session. */
export const finishParts = (label, done, failed) => ({
  clicks: [], base: null, done, failed,
  request: () => request("finish", { label, parts: true }),
});

/** Add a finished object that the server does not know. */
export const add = (object) => ({
  object, done: numbered(object),
  request: () => request("objects", {
    mask: object.rle, label: object.name, clicks: object.clicks,
    initial_mask: object.base?.mask ?? null, exemplar: object.base?.exemplar ?? null,
  }),
});

export const drop = (object) => ({ needs: object, request: () => request(`objects/${object.number}`, {}, "DELETE") });

/** Make a finished object the current one again. */
export const edit = (object) => ({
  needs: object, rebuild: true, brings: true, clicks: object.clicks, base: object.base ?? null,
  done: () => { object.number = null; },
  request: () => request(`objects/${object.number}/edit`),
});

/** Search for all other objects of a finished object's kind. */
export const recall = (object, failed) => ({
  needs: object, rebuild: true, failed, clicks: [], base: { exemplar: { mask: object.rle, clicks: object.clicks } },
  request: () => request("recall", { number: object.number }),
});

export const clear = () => ({ clicks: [], request: () => request("clear") });
