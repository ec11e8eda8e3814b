// Stacks merged into a tree of calls, as a view wants them, and the weight of each node for the
// samples that are selected. What is merged is what `Profile::picture` of profile/mod.rs merges.
// Where nodes are drawn is graph.js's and chart.js's business.

import { CLASS, FIRST_MARKER, INLINED, RELIABLE, TASK } from './model.js';

// The entries of interrupts, and what leads to softirqs at their end: on the stack of whoever was
// interrupted. profile/handlers.rs says where the names are from.
// Which label of a stack's head is shown for each choice of processes.
const HEAD_OF = { name: 'name', id: 'process', thread: 'thread' };

const ENTRY = /^(asm_|_*sysvec_|_*(common|spurious)_interrupt|(__)?irq_exit(_rcu)?$|invoke_softirq|do_softirq|call_on_stack)/;

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
  // `options` has `markers`, `inlined`, `kernel`, `user` (whether they are shown), `processes`
  // ('name', 'id', 'thread' or 'none'), and `apart` (whether interrupts stand under roots of their own instead
  // of on whoever they interrupted).
  constructor(model, options) {
    this.model = model;
    this.options = options;
    this.nodes = new Nodes(model.nodes.count + 64);
    // The node of the tree that a node of the data, or a stack, is shown as.
    this.shownAs = [];
    this.leaf = [];
    // Of each node of the data: its kind of stack, and whether what is shown last is in doubt.
    this.kinds = [];
    this.inDoubt = [];
    this.grow();
  }

  // Takes in the nodes and stacks that the model has got since.
  grow() {
    const { model: { nodes, stacks }, shownAs, leaf } = this;
    for (let node = shownAs.length; node < nodes.count; node++) this.take(node);
    for (let stack = leaf.length; stack < stacks.count; stack++) leaf.push(shownAs[stacks.node[stack]]);
    const { size, parent, label, depth } = this.nodes;
    Object.assign(this, { size, parent, label, depth });
    this.sortChildren();
  }

  take(node) {
    const { model, options, nodes: tree, shownAs, kinds, inDoubt } = this;
    const { nodes, frames, labels, heads } = model;
    const parent = nodes.parent[node], step = nodes.step[node];
    if (parent < 0) {
      let at = 0;
      if (heads.event[step] > 0) at = tree.child(at, heads.event[step] - 1);
      const head = HEAD_OF[options.processes];
      if (head) at = tree.child(at, heads[head][step]);
      shownAs[node] = at;
      kinds[node] = TASK;
      inDoubt[node] = 0;
      return;
    }
    const label = frames.label[step];
    const of = labels.class[label];
    kinds[node] = of === CLASS.KERNEL ? labels.kind[label] : of === CLASS.NOTE ? kinds[parent] : TASK;
    let at = shownAs[parent];
    const changes = of === CLASS.KERNEL && kinds[node] !== kinds[parent];
    if (changes && options.apart && model.interrupts[kinds[node]]) {
      at = tree.child(0, FIRST_MARKER + kinds[node]);
      for (const entry of this.entries(parent)) at = this.show(at, frames.label[nodes.step[entry]], false);
    } else if (changes && options.markers && !this.hides(label)) {
      at = tree.child(at, FIRST_MARKER + kinds[node]);
    }
    const doubtful = !(labels.flags[label] & RELIABLE);
    shownAs[node] = this.show(at, label, inDoubt[parent] === 1);
    inDoubt[node] = doubtful && (!this.hides(label) || inDoubt[parent]) ? 1 : 0;
  }

  // The frames up to a node that are the entry of an interrupt, from the outermost on.
  entries(node) {
    const { model: { nodes, frames, labels, texts } } = this;
    const found = [];
    for (; nodes.parent[node] >= 0; node = nodes.parent[node]) {
      const label = frames.label[nodes.step[node]];
      if (labels.class[label] !== CLASS.KERNEL || !ENTRY.test(texts[labels.name[label]])) break;
      found.push(node);
    }
    return found.reverse();
  }

  hides(label) {
    const { options, model: { labels } } = this;
    const of = labels.class[label];
    return (of === CLASS.USER && !options.user) || (of === CLASS.KERNEL && !options.kernel)
      || ((labels.flags[label] & INLINED) !== 0 && !options.inlined);
  }

  // The node for a frame on another, which is that itself if the frame is hidden, or in doubt as
  // the one before.
  show(at, label, inDoubt) {
    const { labels } = this.model;
    const doubtful = !(labels.flags[label] & RELIABLE);
    if (this.hides(label) || (doubtful && inDoubt)) return at;
    return this.nodes.child(at, doubtful ? labels.collapsed[label] : label);
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
    this.sum(ofStack, samples, selection);
  }

  // Weighs the nodes by the weights of stacks, which are of so many samples.
  sum(ofStack, samples, selection = []) {
    Object.assign(this, { selection, samples, ofStack, ...this.sums(ofStack) });
  }

  // What each node weighs itself, and with all that stands on it.
  sums(ofStack) {
    const own = new Float64Array(this.size);
    for (let stack = 0; stack < this.leaf.length; stack++) own[this.leaf[stack]] += ofStack[stack];
    const total = own.slice();
    for (let node = this.size - 1; node > 0; node--) total[this.parent[node]] += total[node];
    return { own, total };
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
