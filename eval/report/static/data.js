// The packed blocks. Each is unpacked on its first use, and kept.

let DATA = null;
const blocks = new Map();

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

async function unpack(name) {
  const holder = document.querySelector(`script[data-block="${name}"]`);
  const packed = new Blob([bytesOf(holder.textContent)]);
  holder.remove();
  const stream = packed.stream().pipeThrough(new DecompressionStream('gzip'));
  return JSON.parse(await new Response(stream).text());
}

/** The value of a block, as a promise. */
function block(name) {
  if (!blocks.has(name)) blocks.set(name, unpack(name));
  return blocks.get(name);
}

async function loadIndex() {
  DATA = await block('index');
  DATA.byId = new Map();
  DATA.byQuestion = new Map();
  DATA.episodes.forEach((row, i) => {
    row.i = i;
    DATA.byId.set(`${row.run}/${row.id}`, row);
    const key = `${row.run}/${row.q}/${row.sample}`;
    if (row.step === undefined) DATA.byQuestion.set(key, row);
  });
  DATA.evaluations = DATA.runs.map((run, i) => i).filter((i) => DATA.runs[i].kind === 'evaluation');
  DATA.trainings = DATA.runs.map((run, i) => i).filter((i) => DATA.runs[i].kind === 'training');
}

/** All data of an episode. */
async function traceOf(row) {
  const chunk = await block(`chunk-${Math.floor(row.i / DATA.chunk)}`);
  return chunk[row.i % DATA.chunk];
}

/** The episode of the same question in another run. */
const twinOf = (row, run) => DATA.byQuestion.get(`${run}/${row.q}/${row.sample}`);

const outcomeOf = (row) => {
  if (row.status === 'failed') return 'failed';
  if (row.correct === undefined) return 'unscored';
  return row.correct ? 'right' : 'wrong';
};

// The texts for the search: one lower-case text per episode.
const texts = [];
let indexing = null;

function textOf(row, trace) {
  const question = DATA.questions[row.q];
  const parts = [question.qid, question.video, question.text, ...question.options, trace.opening, trace.error || ''];
  for (const turn of trace.turns) parts.push(turn.words || '', turn.written || '', turn.arg || '', turn.obs || '', turn.tool?.error || '');
  return parts.join('\n').toLowerCase();
}

/** Makes every episode searchable. It works in chunks, so that the page stays responsive. */
function indexTexts() {
  indexing ??= (async () => {
    const n = Math.ceil(DATA.episodes.length / DATA.chunk);
    for (let c = 0; c < n; c += 1) {
      const chunk = await block(`chunk-${c}`);
      chunk.forEach((trace, at) => {
        const i = c * DATA.chunk + at;
        texts[i] = textOf(DATA.episodes[i], trace);
      });
      if (c % 4 === 3) await new Promise((resolve) => setTimeout(resolve));
    }
  })();
  return indexing;
}
