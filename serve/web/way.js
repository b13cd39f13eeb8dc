// The changes that lead from the server's clicks to those that the user wants.

function shared(from, to) {
  let count = 0;
  while (count < from.length && from[count] === to[count]) count++;
  return count;
}

/** The next change towards `to`, as {kind, click?, clicks: those after it}, or null. Clicks are compared by identity. */
export function nextStep(from, to) {
  const same = shared(from, to);
  if (same < from.length) {
    if (same === 0 && from.length > 1) return { kind: "clear", clicks: [] };
    return { kind: "undo", clicks: from.slice(0, -1) };
  }
  if (same < to.length) return { kind: "clicks", click: to[same], clicks: to.slice(0, same + 1) };
  return null;
}

/** The number of changes from one to the other. */
export function distance(from, to) {
  const same = shared(from, to);
  const back = same === 0 && from.length > 1 ? 1 : from.length - same;
  return back + to.length - same;
}
