// Stacks merged into a tree of calls, as a view wants them, and the weight of each node for the
// samples that are selected. What is merged is what `Profile::picture` of profile/mod.rs merges.
// Where nodes are drawn is graph.js's and chart.js's business.

import { CLASS, FIRST_MARKER, INLINED, RELIABLE, TASK } from './model.js';

// Up to here the children of a node are looked through one by one.
const FEW = 24;

// Nodes found by their parent and label. Most have a child or two, which came just before: a list
// of them is much faster than a hash table of all. A parent always comes before its children.
class Nodes {
  constructor(expected) {
    this.size = 0;
    this.parent = new Int32Array(expected);
    this.label = new Int32Array(expected);
    this.depth = new Int32Array(expected);
    // The child that came last, and the one before it; 0 for none, as the root is no child.
    this.last = new Int32Array(expected);
    this.before = new Int32Array(expected);
    // The children of nodes that have many, by label.
    this.many = new Map();
    this.add(-1, 0);
  }

  add(parent, label) {
    if (this.size === this.parent.length) this.grow();
    const node = this.size++;
    this.parent[node] = parent;
    this.label[node] = label;
    if (parent < 0) return node;
    this.depth[node] = this.depth[parent] + 1;
    this.before[node] = this.last[parent];
    this.last[parent] = node;
    return node;
  }

  grow() {
    for (const name of ['parent', 'label', 'depth', 'last', 'before']) {
      const larger = new Int32Array(this.size * 2);
      larger.set(this[name]);
      this[name] = larger;
    }
  }

  child(parent, label) {
    let seen = 0;
    for (let node = this.last[parent]; node !== 0; node = this.before[node]) {
      if (this.label[node] === label) return node;
      if (++seen === FEW) return this.childOfMany(parent, label);
    }
    return this.add(parent, label);
  }

  childOfMany(parent, label) {
    let children = this.many.get(parent);
    if (!children) {
      children = new Map();
      for (let node = this.last[parent]; node !== 0; node = this.before[node]) children.set(this.label[node], node);
      this.many.set(parent, children);
    }
    let node = children.get(label);
    if (node === undefined) {
      node = this.add(parent, label);
      children.set(label, node);
    }
    return node;
  }
}

export class Tree {
  // `options` has `markers`, `inlined`, `kernel`, `user` (whether they are shown), and `processes`
  // ('name', 'id' or 'none').
  constructor(model, options) {
    const { nodes, frames, labels, heads } = model;
    const tree = new Nodes(nodes.count + 64);
    const shownAs = new Int32Array(nodes.count);
    const kind = new Uint8Array(nodes.count);
    const inDoubt = new Uint8Array(nodes.count);
    for (let node = 0; node < nodes.count; node++) {
      const parent = nodes.parent[node], step = nodes.step[node];
      if (parent < 0) {
        let at = 0;
        if (heads.event[step] > 0) at = tree.child(at, heads.event[step] - 1);
        if (options.processes === 'name') at = tree.child(at, heads.comm[step]);
        if (options.processes === 'id') at = tree.child(at, heads.process[step]);
        shownAs[node] = at;
        kind[node] = TASK;
        continue;
      }
      let label = frames.label[step];
      const of = labels.class[label], flags = labels.flags[label];
      kind[node] = of === CLASS.KERNEL ? labels.kind[label] : of === CLASS.NOTE ? kind[parent] : TASK;
      let at = shownAs[parent];
      const hidden = (of === CLASS.USER && !options.user) || (of === CLASS.KERNEL && !options.kernel)
        || (flags & INLINED && !options.inlined);
      const doubtful = !(flags & RELIABLE);
      inDoubt[node] = doubtful && (!hidden || inDoubt[parent]) ? 1 : 0;
      if (!hidden && !(doubtful && inDoubt[parent])) {
        if (doubtful) label = labels.collapsed[label];
        if (options.markers && of === CLASS.KERNEL && kind[node] !== kind[parent]) {
          at = tree.child(at, FIRST_MARKER + kind[node]);
        }
        at = tree.child(at, label);
      }
      shownAs[node] = at;
    }
    this.model = model;
    this.size = tree.size;
    this.parent = tree.parent;
    this.label = tree.label;
    this.depth = tree.depth;
    // The node of the tree that a node of the data, or a stack, is shown as.
    this.shownAs = shownAs;
    this.leaf = model.stacks.node.map(node => shownAs[node]);
    this.sortChildren();
  }

  // Puts the children of `node` at `children[first[node]..first[node + 1]]`, by name.
  sortChildren() {
    const { size, parent, label } = this;
    const { rank } = this.model.labels;
    const first = new Int32Array(size + 1);
    for (let node = 1; node < size; node++) first[parent[node] + 1]++;
    for (let node = 0; node < size; node++) first[node + 1] += first[node];
    const next = first.slice();
    const children = new Int32Array(size - 1);
    for (let node = 1; node < size; node++) children[next[parent[node]]++] = node;
    for (let node = 0; node < size; node++) {
      if (first[node + 1] - first[node] < 2) continue;
      const siblings = children.subarray(first[node], first[node + 1]);
      siblings.set(Array.from(siblings).sort((a, b) => rank[label[a]] - rank[label[b]]));
    }
    Object.assign(this, { children, first });
  }

  // Weighs the nodes by a selection of samples, see `select`.
  weigh(selection) {
    const { points, stacks } = this.model;
    const ofStack = new Float64Array(stacks.count);
    let samples = 0;
    for (const point of selection) {
      ofStack[points.stack[point]] += points.weight[point];
      samples += points.samples[point];
    }
    const own = new Float64Array(this.size);
    for (let stack = 0; stack < stacks.count; stack++) own[this.leaf[stack]] += ofStack[stack];
    const total = own.slice();
    for (let node = this.size - 1; node > 0; node--) total[this.parent[node]] += total[node];
    Object.assign(this, { selection, samples, ofStack, own, total });
  }

  // The labels from below the root to a node.
  path(node) {
    const labels = [];
    for (; node > 0; node = this.parent[node]) labels.push(this.label[node]);
    return labels.reverse();
  }

  // The node that a path leads to, or the last there is on the way.
  resolve(labels) {
    let at = 0;
    for (const label of labels) {
      const children = this.children.subarray(this.first[at], this.first[at + 1]);
      const next = children.find(node => this.label[node] === label);
      if (next === undefined || this.total[next] === 0) break;
      at = next;
    }
    return at;
  }
}

// The samples of a range of time, `from` included and `to` not, and of a thread, or of all if it is
// -1: their indices, in the order of time.
export function select(points, { from, to, thread }) {
  const { time, thread: threads, count } = points;
  const start = lowerBound(time, from), end = lowerBound(time, to);
  const chosen = new Uint32Array(end - start);
  let size = 0;
  for (let point = start; point < end && point < count; point++) {
    if (thread < 0 || threads[point] === thread) chosen[size++] = point;
  }
  return chosen.subarray(0, size);
}

// The first index of a sorted list whose number is not below `limit`.
export function lowerBound(numbers, limit) {
  let low = 0, high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
