// The samples in the order of time: each is as wide as its weight, and neighbours share the frames
// that they have in common from the root.
//
// A long recording would make more boxes than a browser can hold, so only a window of it is laid
// out in full: what is narrower than the least width, or outside of the window, is put together to
// boxes that only say how many frames they stand for.

import { Boxes } from './graph.js';

// How fine a window is laid out: so many boxes side by side at most. Several times as many as a
// screen has pixels, so that it need not be done again at each zoom.
const FINEST = 24000;

export function chart(tree, range) {
  const { model: { points, labels }, label, selection, leaf, parent, depth, total } = tree;
  const boxes = new Boxes(4096);
  const [from, to] = range ?? [0, total[0]];
  const least = (to - from) / FINEST;
  boxes.window = { from, to, least };
  if (total[0] === 0) return boxes;

  // The boxes of the sample that is looked at, by depth; and its nodes that are new.
  const open = [boxes.add(0, -1, 0, 0, 0)];
  const fresh = [];
  let now = 0, last = 0;
  for (const point of selection) {
    const weight = points.weight[point];
    if (weight === 0) continue;
    const next = leaf[points.stack[point]];
    if (next !== last) {
      let before = last, after = next;
      fresh.length = 0;
      while (before !== after) {
        if (depth[before] >= depth[after]) {
          close(boxes, open.pop(), now);
          before = parent[before];
        } else {
          fresh.push(after);
          after = parent[after];
        }
      }
      for (let i = fresh.length - 1; i >= 0; i--) {
        const box = boxes.add(fresh[i], open[open.length - 1], open.length, now, now);
        boxes.group[box] = labels.group[label[fresh[i]]];
        open.push(box);
      }
      last = next;
    }
    now += weight;
  }
  while (open.length > 0) close(boxes, open.pop(), now);
  return boxes;
}

// Ends a box, which with all that stands on it is the last there is.
function close(boxes, box, x1) {
  const { from, to, least } = boxes.window;
  const x0 = boxes.x0[box];
  boxes.x1[box] = x1;
  boxes.end[box] = boxes.count;
  if (box === 0 || (x1 - x0 >= least && x1 > from && x0 < to)) return;
  const group = boxes.group[box];
  let frames = 0;
  for (let other = box; other < boxes.count; other++) frames += boxes.node[other] < 0 ? -boxes.node[other] : 1;
  boxes.count = box;
  const beside = box - 1;
  if (boxes.node[beside] < 0 && boxes.up[beside] === boxes.up[box] && boxes.x1[beside] === x0) {
    boxes.node[beside] -= frames;
    boxes.x1[beside] = x1;
  } else {
    boxes.group[boxes.add(-frames, boxes.up[box], boxes.depth[box], x0, x1)] = group;
  }
}

// Whether a chart is fine enough for a view, and covers it.
export function covers(boxes, [x0, x1]) {
  const { from, to, least } = boxes.window;
  const fine = least <= (x1 - x0) / 3000 || least < 1e-9;
  return fine && x0 >= from && x1 <= to;
}

// The window to lay out for a view: some more on either side, to move about in.
export function windowOf([x0, x1], width) {
  const more = x1 - x0;
  return [Math.max(0, x0 - more), Math.min(width, x1 + more)];
}
