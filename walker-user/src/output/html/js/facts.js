// What there is to say of one node of a tree, for the samples that are selected. Computed when a
// frame is selected; how it is shown is inspector.js's business.

// The frames that call, or are called by, all frames with this label, the heaviest first: their
// labels with the weight of the stacks that go through both, and a node that stands for them. A
// stack that goes through a pair more than once counts once.
export function neighbours(boxes, tree, label) {
  const callers = new Map(), callees = new Map();
  const count = (map, other, box, node, weight) => {
    const entry = map.get(other) ?? { label: other, weight: 0, node, heaviest: 0, end: 0 };
    map.set(other, entry);
    if (box < entry.end) return;
    entry.end = boxes.end[box];
    entry.weight += weight;
    if (weight > entry.heaviest) Object.assign(entry, { node, heaviest: weight });
  };
  for (let box = 1; box < boxes.count; box++) {
    const node = boxes.node[box], up = boxes.node[boxes.up[box]];
    const weight = tree.total[node];
    if (tree.label[node] === label) count(callers, tree.label[up], box, up, weight);
    if (tree.label[up] === label) count(callees, tree.label[node], box, node, weight);
  }
  const sorted = map => [...map.values()].sort((a, b) => b.weight - a.weight || a.label - b.label);
  return { callers: sorted(callers), callees: sorted(callees) };
}

// The weights of all frames with a label; what stands on another one is not counted again.
export function ofLabel(boxes, tree, label) {
  let own = 0, total = 0, end = 0;
  for (let box = 0; box < boxes.count; box++) {
    const node = boxes.node[box];
    if (tree.label[node] !== label) continue;
    own += tree.own[node];
    if (box < end) continue;
    total += tree.total[node];
    end = boxes.end[box];
  }
  return { own, total };
}

// Which nodes are a node or above it, towards the leaves.
function subtree(tree, root) {
  const inside = new Uint8Array(tree.size);
  inside[root] = 1;
  for (let node = root + 1; node < tree.size; node++) inside[node] = inside[tree.parent[node]];
  return inside;
}

// Why the walks of the stacks through a node stopped, those only that are not complete; and when
// the first and the last sample of them was.
export function walks(tree, root) {
  const { model: { facts, points, stacks }, leaf, ofStack, selection } = tree;
  const inside = subtree(tree, root);
  const stops = new Map();
  let incomplete = 0;
  for (let stack = 0; stack < stacks.count; stack++) {
    const [words, complete] = facts.stops[stacks.stop[stack]];
    if (!inside[leaf[stack]] || complete || ofStack[stack] === 0) continue;
    incomplete += ofStack[stack];
    stops.set(words, (stops.get(words) ?? 0) + ofStack[stack]);
  }
  const seen = point => inside[leaf[points.stack[point]]];
  let first = 0, last = selection.length - 1;
  while (first <= last && !seen(selection[first])) first++;
  while (last >= first && !seen(selection[last])) last--;
  return {
    incomplete,
    stops: [...stops].sort((a, b) => b[1] - a[1]),
    first: points.time[selection[first]],
    last: points.time[selection[last]],
  };
}

// Where the code of a node is from: each a set of texts, as its frames need not agree.
export function origins(tree, shown) {
  const { model: { facts, texts, nodes, frames }, shownAs, label } = tree;
  const modules = new Set(), sources = new Set(), objects = new Set();
  for (let node = 0; node < nodes.count; node++) {
    if (shownAs[node] !== shown || nodes.parent[node] < 0) continue;
    const frame = nodes.step[node];
    // Others are shown as this node because they are hidden.
    if (frames.label[frame] !== label[shown]) continue;
    if (frames.module[frame] > 0) modules.add(texts[frames.module[frame] - 1]);
    if (frames.file[frame] > 0) {
      const line = frames.line[frame];
      sources.add(texts[frames.file[frame] - 1] + (line > 0 ? `:${line}` : ''));
    }
    if (frames.object[frame] > 0) objects.add(frames.object[frame] - 1);
  }
  return { modules: [...modules], sources: [...sources], objects: [...objects].map(index => facts.objects[index]) };
}
