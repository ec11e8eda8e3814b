// The data of the page, unpacked: the tables, stacks and samples that data.rs wrote in the form
// that columns.rs describes. Nothing here is about a view.

export const CLASS = { PROCESS: 0, USER: 1, KERNEL: 2, MARKER: 3, EVENT: 4, NOTE: 5 };
export const RELIABLE = 1, INLINED = 2;
// The number of the task stack among the kinds of stacks, and the label of the first kind's marker.
export const TASK = 1, FIRST_MARKER = 1;

async function inflated(base64) {
  const text = atob(base64);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Numbers that can be large: times and weights. All others have 32 bits.
const WIDE = new Set(['pointStep', 'pointSamples', 'pointWeight']);

function readColumns(heads, bytes, at) {
  const columns = {};
  for (const [name, count] of heads) {
    const numbers = WIDE.has(name) ? new Float64Array(count) : new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      let byte = bytes[at++], number = byte & 0x7f, place = 128;
      while (byte >= 0x80) {
        byte = bytes[at++];
        number += (byte & 0x7f) * place;
        place *= 128;
      }
      numbers[i] = number;
    }
    columns[name] = numbers;
  }
  return columns;
}

// The parent of each node, -1 below the root. `nodeUp` says how much less deep than a child of the
// node before a node is.
function parents(ups) {
  const parent = new Int32Array(ups.length);
  const open = [-1];
  let depth = 0;
  for (let node = 0; node < ups.length; node++) {
    depth = depth + 1 - ups[node];
    parent[node] = open[depth - 1];
    open[depth] = node;
  }
  return parent;
}

// The group of colours of the code that a stack's sample was in: notes are no code.
function leafGroups(c, parent) {
  const group = new Uint8Array(parent.length);
  for (let node = 0; node < parent.length; node++) {
    if (parent[node] < 0) {
      group[node] = c.labelGroup[c.headName[c.nodeStep[node]]];
      continue;
    }
    const label = c.frameLabel[c.nodeStep[node]];
    const note = c.labelClass[label] === CLASS.NOTE;
    group[node] = note ? group[parent[node]] : c.labelGroup[label];
  }
  return c.stackNode.reduce((groups, node, stack) => {
    groups[stack] = group[node];
    return groups;
  }, new Uint8Array(c.stackNode.length));
}

export async function load(base64) {
  const bytes = await inflated(base64);
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const facts = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const c = readColumns(facts.columns, bytes, 4 + length);
  const time = new Float64Array(c.pointStep.length);
  let now = 0;
  for (let point = 0; point < time.length; point++) time[point] = now += c.pointStep[point];
  const parent = parents(c.nodeUp);
  const model = {
    facts,
    unit: facts.unit,
    texts: facts.texts,
    labels: {
      count: c.labelName.length,
      name: c.labelName,
      class: c.labelClass,
      kind: c.labelKind,
      group: c.labelGroup,
      flags: c.labelFlags,
      shade: c.labelShade,
      rank: c.labelRank,
      collapsed: c.labelCollapsed,
      words: c.labelWords,
    },
    frames: {
      label: c.frameLabel,
      module: c.frameModule,
      file: c.frameFile,
      line: c.frameLine,
      object: c.frameObject,
    },
    heads: { event: c.headEvent, name: c.headName, process: c.headProcess, thread: c.headThread },
    // Of a node below the root, the step is a head; of any other, a frame.
    nodes: { count: parent.length, parent, step: c.nodeStep },
    // Which kinds of stacks are those of interrupts: nothing asks for a recording's.
    interrupts: [],
    stacks: { count: c.stackNode.length, node: c.stackNode, stop: c.stackStop, group: leafGroups(c, parent) },
    points: {
      count: time.length,
      time,
      stack: c.pointStack,
      thread: c.pointThread,
      cpu: c.pointCpu,
      samples: c.pointSamples,
      weight: c.pointWeight,
    },
  };
  // A label as it is shown: an oops marks what is in doubt like this, too.
  model.nameOf = label =>
    (model.labels.flags[label] & RELIABLE ? '' : '? ') + model.texts[model.labels.name[label]];
  return model;
}
