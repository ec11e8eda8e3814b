// All that a user does with the graph and the search: keys and pointer. Every function can be reached
// by keyboard alone.

import { find } from './app.js';
import { ROW } from './painter.js';

// What all pages have, for the list of keys.
export const GRAPH_KEYS = [
  ['↑ ↓ ← →', 'select the frame above, below, left or right'],
  ['Enter', 'zoom in on the selected frame'],
  ['Backspace, Escape', 'zoom out to the frame below'],
  ['+ −', 'zoom in or out by half; Ctrl and the wheel do the same'],
  ['Home', 'reset zoom'],
  ['/ or Ctrl-F', 'search; Enter: go to the first match; Escape: clear'],
  ['n N', 'next and previous match'],
  ['?', 'these keys'],
];

// The frame that an arrow key leads to from the selected one, or -1.
function neighbour(app, key) {
  const { boxes, chosen, icicle } = app;
  const away = key === (icicle ? 'ArrowDown' : 'ArrowUp');
  if (key === 'ArrowUp' || key === 'ArrowDown') {
    if (!away) return boxes.up[chosen];
    let best = -1;
    for (let box = chosen + 1; box < boxes.end[chosen]; box = boxes.end[box]) {
      const wider = best < 0 || boxes.x1[box] - boxes.x0[box] > boxes.x1[best] - boxes.x0[best];
      if (app.visible(box) && wider) best = box;
    }
    return best;
  }
  const depth = boxes.depth[chosen];
  if (key === 'ArrowRight') {
    for (let box = boxes.end[chosen]; box < boxes.count; box++) {
      if (boxes.depth[box] === depth && app.visible(box)) return box;
    }
  } else {
    for (let box = chosen - 1; box >= 0; box--) {
      if (boxes.depth[box] === depth && app.visible(box)) return box;
    }
  }
  return -1;
}

// The next or previous box that matches the search.
function match(app, step) {
  const { boxes, tree, search: { hits }, chosen } = app;
  if (!hits) return -1;
  for (let i = 1; i <= boxes.count; i++) {
    const box = (chosen + i * step + i * boxes.count) % boxes.count;
    const at = box < 0 ? box + boxes.count : box;
    if (boxes.node[at] >= 0 && hits[tree.label[boxes.node[at]]]) return at;
  }
  return -1;
}

function onGraphKey(app, event) {
  const arrow = event.key.startsWith('Arrow');
  if (arrow && event.shiftKey) return app.onStripKey(event);
  if (arrow) app.choose(neighbour(app, event.key), true);
  else if (event.key === 'Enter') app.zoomBox(app.chosen);
  else if (event.key === 'Backspace' || event.key === 'Escape') app.zoomOut();
  else if (event.key === '+' || event.key === '=') app.zoomBy(0.5);
  else if (event.key === '-') app.zoomBy(2);
  else if (event.key === 'Home') app.zoomBox(0);
  else if (event.key === 'n' || event.key === 'N') app.choose(match(app, event.key === 'n' ? 1 : -1), true);
  else return false;
  return true;
}

export function listenToKeys(app) {
  const handled = handler => event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (handler(app, event)) event.preventDefault();
  };
  find('canvas').addEventListener('keydown', handled(onGraphKey));
  find('strip').addEventListener('keydown', handled((app, event) => app.onStripKey(event)));
  find('strip').addEventListener('focus', () => app.changed());
  find('strip').addEventListener('blur', () => app.changed());
  window.addEventListener('keydown', event => {
    const search = find('search');
    const typing = event.target.matches?.('input:not([type=checkbox]), select');
    const finds = (event.key === 'f' && (event.ctrlKey || event.metaKey)) || (event.key === '/' && !typing);
    // A second Ctrl-F is for the browser.
    if (finds && document.activeElement !== search) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === '?' && !typing) {
      event.preventDefault();
      find('keys').showModal();
    }
  });
  find('search').addEventListener('keydown', event => {
    if (event.key === 'Escape') {
      event.preventDefault();
      find('search').value = '';
      app.setSearch('', false);
      find('canvas').focus();
    } else if (event.key === 'Enter') {
      find('canvas').focus();
      app.choose(match(app, 1), true);
    }
  });
}

// The box at a place on the canvas, or -1.
export function boxAt(app, x, y) {
  const { boxes, view: [from, to], painter: { canvas } } = app;
  const row = Math.floor((y + find('scroll').scrollTop) / ROW);
  const depth = app.icicle ? row : app.rows - 1 - row;
  return boxes.at(from + x / canvas.clientWidth * (to - from), depth);
}

export function listenToPointer(app) {
  const canvas = find('canvas');
  let drag = null;
  canvas.addEventListener('pointerdown', event => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    drag = { x: event.offsetX, y: event.offsetY, moved: false };
  });
  canvas.addEventListener('pointermove', event => {
    if (drag && (drag.moved || Math.hypot(event.offsetX - drag.x, event.offsetY - drag.y) > 4)) {
      app.pan(drag.x - event.offsetX);
      find('scroll').scrollTop += drag.y - event.offsetY;
      drag = { x: event.offsetX, y: event.offsetY, moved: true };
      return;
    }
    const box = boxAt(app, event.offsetX, event.offsetY);
    if (box === app.hovered) return;
    app.hovered = box;
    app.changed();
  });
  canvas.addEventListener('pointerup', event => {
    const clicked = drag && !drag.moved;
    drag = null;
    const box = clicked ? boxAt(app, event.offsetX, event.offsetY) : -1;
    if (box < 0) return;
    app.choose(box, false);
    app.zoomBox(box);
  });
  canvas.addEventListener('pointercancel', () => { drag = null; });
  canvas.addEventListener('pointerleave', () => {
    app.hovered = -1;
    app.changed();
  });
  canvas.addEventListener('wheel', event => {
    const [from, to] = app.view;
    if (event.ctrlKey) app.zoomBy(event.deltaY > 0 ? 1.25 : 0.8, from + event.offsetX / canvas.clientWidth * (to - from));
    else if (event.deltaX !== 0) app.pan(event.deltaX);
    else return;
    event.preventDefault();
  }, { passive: false });
  find('scroll').addEventListener('scroll', () => app.changed());
  new ResizeObserver(() => app.changed()).observe(find('scroll'));
}

// The controls that all pages have.
export function listenToControls(app) {
  const change = (id, changed) => find(id).addEventListener('change', event => changed(event.target));
  change('processes', control => app.setOption('processes', control.value));
  for (const id of ['markers', 'inlined', 'kernel', 'user']) {
    change(id, control => app.setOption(id, control.checked));
  }
  change('root', control => app.setRoot(control.value));
  change('lanes', control => {
    app.strip.lanes = control.checked;
    app.changed();
  });
  const search = () => app.setSearch(find('search').value, find('regex').checked);
  find('search').addEventListener('input', search);
  change('regex', search);
  find('reset').addEventListener('click', () => app.zoomBox(0));
  find('help').addEventListener('click', () => find('keys').showModal());
  const recolour = () => {
    app.colours.read();
    app.showLegend();
    app.changed();
  };
  find('theme').addEventListener('click', () => {
    find('theme').textContent = `theme: ${app.colours.turn()}`;
    recolour();
  });
  app.colours.system.addEventListener('change', recolour);
}

// Fills in the list of keys.
export function tellKeys(keys) {
  for (const [key, what] of keys) {
    const [term, meaning] = [document.createElement('dt'), document.createElement('dd')];
    term.textContent = key;
    meaning.textContent = what;
    find('keys').querySelector('dl').append(term, meaning);
  }
}
