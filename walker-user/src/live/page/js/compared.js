// What changed from one span of time to another, in shares of all samples of each: the colours are
// those of output/diff/svg.rs, for what changed in a frame itself.

// Changes of less than this share of the largest one have no colour.
const NOISE = 0.02;

export class Compared {
  // `before` are the weights by stack of the time that `tree` is compared with.
  constructor(tree, before) {
    const { own, total } = tree.sums(before);
    const wholes = [total[0] || 1, tree.total[0] || 1];
    const change = (was, is) => is / wholes[1] - was / wholes[0];
    this.own = own.map((was, node) => change(was, tree.own[node]));
    this.total = total.map((was, node) => change(was, tree.total[node]));
    this.largest = this.own.reduce((most, one) => Math.max(most, Math.abs(one)), 0);
    this.empty = total[0] === 0;
    // The share of the time before that was in frames which are not drawn, as there are none now.
    this.gone = own.reduce((sum, was, node) => tree.total[node] === 0 ? sum + was : sum, 0) / wholes[0];
  }

  // One of `count` colours, of which the middle one is for no change.
  level(node, count) {
    const middle = (count - 1) / 2, change = this.own[node];
    if (this.largest === 0 || Math.abs(change) < NOISE * this.largest) return middle;
    return middle + Math.sign(change) * Math.min(Math.ceil(Math.abs(change) / this.largest * middle), middle);
  }
}
