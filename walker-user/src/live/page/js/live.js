// The start of the live page, and the controls that only it has.

import { find } from './app.js';
import { GRAPH_KEYS, listenToControls, listenToKeys, listenToPointer, tellKeys } from './keys.js';
import { LiveApp } from './live_app.js';
import { LiveModel } from './live_model.js';
import { listen } from './stream.js';

// A server that says nothing for so long hangs: it says something several times a second.
const SILENT_MS = 5000;

const KEYS = [
  ...GRAPH_KEYS,
  ['Space', 'pause, or go on'],
  ['1 2 3 4', 'show the last 5 s, 30 s, 5 min, or all since the start'],
  ['i', 'interrupts apart, or on whom they interrupted'],
  ['c', 'compare with as much time before'],
  ['Shift + ← →', 'select a range of time, or change its end'],
  ['← → in the strip of time', 'move the range; Escape: go on'],
];

function listenToTime(app) {
  const change = (id, changed) => find(id).addEventListener('change', event => changed(event.target));
  change('order', control => app.setOrder(control.value));
  change('apart', control => app.setOption('apart', control.checked));
  change('compare', control => app.setComparing(control.checked));
  change('windows', control => app.setWindow(control.value === 'start' ? null : +control.value));
  find('pause').addEventListener('click', () => app.setPaused(!app.paused));
  for (const link of document.querySelectorAll('a[data-format]')) {
    link.addEventListener('click', () => { link.href = app.download(link.dataset.format); });
  }
  const windows = [...find('windows').querySelectorAll('input')];
  window.addEventListener('keydown', event => {
    const taken = event.key === ' ' ? 'input, select, button, a' : 'input:not([type=checkbox], [type=radio]), select';
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.(taken)) return;
    const control = { i: find('apart'), c: find('compare'), ' ': find('pause'), 1: windows[0], 2: windows[1], 3: windows[2], 4: windows[3] }[event.key];
    if (!control) return;
    event.preventDefault();
    control.click();
  });
}

function begin(snapshot) {
  const app = new LiveApp(new LiveModel(snapshot));
  // What is visible of this page to a console, and to tests.
  globalThis.stackwalk = app;
  const title = () => {
    find('title').textContent = app.model.title;
    document.title = `${app.model.title} – stackwalk live`;
  };
  title();
  app.shape();
  listenToKeys(app);
  listenToPointer(app);
  listenToControls(app);
  listenToTime(app);
  tellKeys(KEYS);
  app.scrollToRoot();
  app.draw();
  performance.mark('painted');
  return {
    delta: delta => app.add(delta),
    state: trouble => app.setTrouble(trouble),
    snapshot: next => {
      app.reset(next);
      title();
    },
  };
}

function fail(text) {
  find('failure').hidden = text === '';
  find('failure').textContent = text;
}

function start() {
  // The cookie has it: it need not be in the history, or on screens that others see.
  if (location.search) history.replaceState(null, '', location.pathname);
  let page = null, heard = performance.now();
  listen({
    snapshot: snapshot => {
      heard = performance.now();
      try {
        if (page) page.snapshot(snapshot);
        else page = begin(snapshot);
      } catch (error) {
        fail(`This page cannot be shown (${error.message}). Load it again; it needs a browser of 2023 or later.`);
        throw error;
      }
    },
    delta: delta => {
      heard = performance.now();
      return page !== null && page.delta(delta);
    },
    state: trouble => {
      if (page) page.state(trouble);
      else find('state').textContent = trouble || 'connecting …';
    },
  });
  setInterval(() => {
    if (performance.now() - heard > SILENT_MS) page?.state('stackwalk has said nothing for a while');
  }, 1000);
}

start();
