// Node.js with --perf-basic-prof, which names JavaScript functions in a perf map. Its functions
// are kept apart by try blocks and arguments that the compiler cannot fold.
// chain: outer inner work
'use strict';

let sink = 0;

function work(n) {
  let total = 0;
  for (let i = 0; i < 200000; i++) {
    total = (total + (i ^ n)) | 0;
  }
  return total;
}

function inner(n) {
  const result = work(n) + 1;
  sink ^= result;
  return result;
}

function outer(n) {
  const result = inner(n) + 1;
  sink ^= result;
  return result;
}

const limit = Number(process.env.CORPUS_MS || 1000);
const begin = Date.now();
let n = 0;
while (Date.now() - begin < limit) {
  outer(n++);
}
