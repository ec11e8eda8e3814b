// The start of the page of a recording, and the controls that only it has.

import { App, find } from './app.js';
import { GRAPH_KEYS, listenToControls, listenToKeys, listenToPointer, tellKeys } from './keys.js';
import { load } from './model.js';
import { duration, grouped } from './text.js';

const KEYS = [
  ...GRAPH_KEYS,
  ['Shift + ← →', 'select a range of time, or change its end'],
  ['← → in the strip of time', 'move the range; Escape: the whole recording'],
];

function listenToTime(app) {
  const change = (id, changed) => find(id).addEventListener('change', event => changed(event.target));
  change('order', control => app.setOrder(control.value));
  change('thread', control => app.setThread(+control.value));
  find('all').addEventListener('click', () => app.strip.choose(null));
}

// What the page says once: the beginning, merged samples, the threads, the keys.
function fillIn({ facts, texts, points }) {
  if (facts.began_ms !== null) {
    const began = new Date(facts.began_ms).toISOString();
    find('began').textContent = `, began ${began.slice(0, 10)} ${began.slice(11, 19)} UTC`;
  }
  if (facts.merged) {
    const apart = facts.merged.threads ? 'stack, thread and CPU' : 'stack, whatever its thread and CPU,';
    find('merged').hidden = false;
    find('merged').textContent = `${grouped(facts.merged.samples)} samples are too many to be shown one by one: `
      + `those of the same ${apart} are merged in slots of ${duration(facts.merged.slot_ns)}.`;
  }
  if (!facts.timed) find('when').hidden = true;
  const apart = facts.timed && (!facts.merged || facts.merged.threads);
  const weight = new Float64Array(facts.threads.length);
  if (apart) points.weight.forEach((more, point) => { weight[points.thread[point]] += more; });
  const threads = apart ? facts.threads.map(([id, name], index) => ({ id, name, index })) : [];
  threads.sort((a, b) => weight[b.index] - weight[a.index]);
  find('thread').append(new Option('all', '-1'));
  for (const { id, name, index } of threads) find('thread').append(new Option(`${texts[name]} ${id}`, index));
  find('thread').disabled = !apart;
  tellKeys(KEYS);
}

async function start() {
  const model = await load(find('data').textContent);
  fillIn(model);
  const app = new App(model);
  // What is visible of this page to a console, and to tests.
  globalThis.stackwalk = app;
  app.shape();
  listenToKeys(app);
  listenToPointer(app);
  listenToControls(app);
  listenToTime(app);
  app.scrollToRoot();
  app.draw();
  performance.mark('painted');
}

start().catch(error => {
  find('failure').hidden = false;
  find('failure').textContent = `This page cannot be shown (${error.message}). `
    + 'It needs a browser of 2023 or later, and the whole file: write it again, or try another browser.';
  throw error;
});
