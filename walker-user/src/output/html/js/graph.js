// Boxes: what is drawn, and where, in units of weight from the left and in frames from the root.
// This module lays out a tree as a flame graph; chart.js lays samples out in the order of time.

// Boxes depth first: a box is followed by all that stands on it, up to `end`. `up` is the box it
// stands on, -1 for the root's. `node` is that of the tree, or, below zero, how many frames too
// small to be kept are in its place.
export class Boxes {
  constructor(capacity) {
    this.count = 0;
    // The highest depth of any.
    this.deepest = 0;
    this.node = new Int32Array(capacity);
    this.up = new Int32Array(capacity);
    this.depth = new Int32Array(capacity);
    this.end = new Int32Array(capacity);
    this.group = new Uint8Array(capacity);
    this.x0 = new Float64Array(capacity);
    this.x1 = new Float64Array(capacity);
  }

  add(node, up, depth, x0, x1) {
    if (this.count === this.node.length) this.grow();
    const box = this.count++;
    this.node[box] = node;
    this.up[box] = up;
    this.depth[box] = depth;
    this.end[box] = this.count;
    this.x0[box] = x0;
    this.x1[box] = x1;
    return box;
  }

  grow() {
    for (const name of ['node', 'up', 'depth', 'end', 'group', 'x0', 'x1']) {
      const old = this[name];
      this[name] = new old.constructor(old.length * 2);
      this[name].set(old);
    }
  }

  get width() {
    return this.count === 0 ? 0 : this.x1[0];
  }

  // The box at a place, or -1.
  at(x, depth) {
    let box = 0;
    while (box < this.count) {
      if (x < this.x0[box] || x >= this.x1[box]) box = this.end[box];
      else if (this.depth[box] === depth) return box;
      else box++;
    }
    return -1;
  }

  // The deepest box that holds a range and is wider.
  around(x0, x1) {
    const room = (x1 - x0) * (1 + 1e-9);
    let found = 0, box = 0;
    while (box < this.count) {
      const holds = this.x0[box] <= x0 && this.x1[box] >= x1 && this.node[box] >= 0;
      if (holds && this.x1[box] - this.x0[box] > room) found = box;
      box = holds ? box + 1 : this.end[box];
    }
    return found;
  }

  // The first box of a node of the tree, or -1.
  of(node) {
    const box = this.node.subarray(0, this.count).indexOf(node);
    return box;
  }
}

// The nodes of a weighed tree that have weight, siblings by name or the heaviest first.
export function graph(tree, heaviestFirst) {
  const { total, children, first, depth } = tree;
  let count = 0, deepest = 0;
  for (let node = 0; node < tree.size; node++) {
    if (total[node] === 0) continue;
    count++;
    if (depth[node] > deepest) deepest = depth[node];
  }
  const boxes = new Boxes(Math.max(count, 1));
  boxes.deepest = deepest;
  if (count === 0) return boxes;
  // What is still to be laid out, the next one last.
  const pending = new Int32Array(count);
  let size = 1;
  // Where the next box of each depth starts, and the last box of each depth.
  const start = new Float64Array(deepest + 2), open = new Int32Array(deepest + 2).fill(-1);
  while (size > 0) {
    const node = pending[--size], at = depth[node];
    const x0 = start[at];
    start[at] = x0 + total[node];
    start[at + 1] = x0;
    open[at] = boxes.add(node, at === 0 ? -1 : open[at - 1], at, x0, start[at]);
    const from = size;
    for (let i = first[node + 1] - 1; i >= first[node]; i--) if (total[children[i]] > 0) pending[size++] = children[i];
    if (heaviestFirst && size - from > 1) {
      // By name where weights are equal, as they are pending in reverse.
      const lightestFirst = Array.from(pending.subarray(from, size)).sort((a, b) => total[a] - total[b]);
      pending.set(lightestFirst, from);
    }
  }
  for (let box = boxes.count - 1; box > 0; box--) {
    const up = boxes.up[box];
    if (boxes.end[box] > boxes.end[up]) boxes.end[up] = boxes.end[box];
  }
  return boxes;
}
