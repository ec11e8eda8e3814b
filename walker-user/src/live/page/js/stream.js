// Listens to the stream of docs/live-protocol.md, again and again: the browser connects anew when a
// connection breaks, and this does when an answer was a refusal.

const AGAIN_MS = 2000;
const REFUSALS = {
  401: 'stackwalk was started again: open the URL that it printed',
  403: 'stackwalk does not answer this address: open the URL that it printed',
  429: 'too many requests from here: trying again',
  503: 'too many pages listen to stackwalk: close some; trying again',
};

// `snapshot` and `delta` are called with what came; `delta` says whether it was the next one. `state`
// is called with what is wrong, or with an empty text.
export function listen({ snapshot, delta, state }) {
  const source = new EventSource('stream');
  const again = (why, after) => {
    source.close();
    state(why);
    setTimeout(() => listen({ snapshot, delta, state }), after);
  };
  source.addEventListener('snapshot', event => {
    state('');
    snapshot(JSON.parse(event.data));
  });
  source.addEventListener('delta', event => {
    state('');
    if (!delta(JSON.parse(event.data))) again('connecting …', 0);
  });
  source.addEventListener('error', async () => {
    state('stackwalk does not answer: trying again');
    if (source.readyState !== EventSource.CLOSED) return;
    const status = await fetch('health').then(answer => answer.status, () => 0);
    again(REFUSALS[status] ?? 'stackwalk does not answer: trying again', AGAIN_MS);
  });
}
