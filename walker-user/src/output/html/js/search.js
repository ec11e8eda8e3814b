// Which labels match a search, and how much of the samples they are.

export class Search {
  constructor(model) {
    this.model = model;
    this.clear();
  }

  clear() {
    this.hits = null;
    this.error = '';
  }

  // Labels with this text in their name or, if it is one, that match this regular expression; both
  // whatever the case. An expression that is none is said to be so, and looked for as text.
  find(text, regex) {
    this.clear();
    if (text === '') return;
    let test = null;
    if (regex) {
      try {
        const expression = new RegExp(text, 'i');
        test = name => expression.test(name);
      } catch {
        this.error = 'no regular expression, searched as text';
      }
    }
    const lower = text.toLowerCase();
    test ??= name => name.toLowerCase().includes(lower);
    this.choose(label => test(this.model.nameOf(label)));
  }

  // Labels of a group of colours.
  findGroup(group) {
    this.clear();
    this.choose(label => this.model.labels.group[label] === group);
  }

  choose(test) {
    this.hits = Uint8Array.from({ length: this.model.labels.count }, (_, label) => test(label) ? 1 : 0);
  }

  get active() {
    return this.hits !== null;
  }

  // The weight of all stacks that go through a match: what stands on a match is not counted again.
  weight(tree) {
    if (!this.active) return 0;
    const { size, parent, label, total } = tree;
    const matched = new Uint8Array(size);
    let sum = 0;
    for (let node = 0; node < size; node++) {
      const below = node > 0 && matched[parent[node]];
      if (!below && this.hits[label[node]]) sum += total[node];
      matched[node] = below || this.hits[label[node]];
    }
    return sum;
  }

  // The same for a part of a flame graph.
  weightBetween(boxes, tree, [x0, x1]) {
    let sum = 0;
    for (let box = 0; box < boxes.count;) {
      const from = Math.max(boxes.x0[box], x0), to = Math.min(boxes.x1[box], x1);
      const node = boxes.node[box];
      const hit = node >= 0 && this.hits[tree.label[node]];
      if (from < to && hit) sum += to - from;
      box = hit || from >= to ? boxes.end[box] : box + 1;
    }
    return sum;
  }

  // How many matches there are before each box, and in all: what is drawn as one small box then
  // knows whether a match is in it.
  before(boxes, tree) {
    if (!this.active) return null;
    const before = new Int32Array(boxes.count + 1);
    for (let box = 0; box < boxes.count; box++) {
      const node = boxes.node[box];
      before[box + 1] = before[box] + (node >= 0 ? this.hits[tree.label[node]] : 0);
    }
    return before;
  }
}
