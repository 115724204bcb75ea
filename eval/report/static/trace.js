// One episode, turn by turn, or two runs on the same question, side by side.

let frames = [];
let strips = [];

async function drawTrace(f, at) {
  const target = hooks.trace;
  const row = DATA.byId.get(f.e);
  if (!row) {
    fill(target, h('p', { class: 'empty' }, found.length ? 'Choose an episode, or press J.' : 'No episode fits these filters.'));
    return;
  }
  const twin = f.vs === '' ? undefined : twinOf(row, f.vs);
  const [trace, other] = await Promise.all([traceOf(row), twin && traceOf(twin)]);
  const question = DATA.questions[row.q];
  if (question.strip?.length) strips = await block('strip');
  if ([trace, other].some((one) => one?.seen || one?.turns.some((turn) => turn.frames || turn.seen))) frames = await block('frames');
  if (filtersOf(place.params).e !== f.e) return; // the reader has opened another episode meanwhile
  fill(target,
    traceHead(row, question, at),
    h('div', { class: 'columns' }, oneTrace(row, trace, question, twin ? 'A' : ''), twin && oneTrace(twin, other, question, 'B')),
    f.vs !== '' && !twin && h('p', { class: 'note' }, `${DATA.runs[f.vs].name} did not play this question.`));
  target.scrollTop = 0;
  if (matchMedia('(max-width: 820px)').matches) window.scrollTo(0, 0);
  document.title = `${question.qid} · ${DATA.title}`;
}

function traceHead(row, question, at) {
  const by = (n, text, keys) => h('button', { type: 'button', onclick: () => move(n), disabled: at + n < 0 || at + n >= found.length, 'aria-keyshortcuts': keys }, text);
  return h('header', { class: 'trace-head' },
    h('div', { class: 'crumbs' },
      h('a', { class: 'back', href: linkTo('episodes', { ...place.params, e: '' }) }, '← All episodes'),
      h('span', {}, at >= 0 ? `${(at + 1).toLocaleString('en')} of ${found.length.toLocaleString('en')}` : 'outside of the filters'),
      by(-1, '← Previous', 'K'), by(1, 'Next →', 'J'),
      h('a', { class: 'permalink', href: linkTo('episodes', { e: `${row.run}/${row.id}` }) }, 'Link')),
    h('h2', { dir: 'auto' }, question.text),
    h('p', { class: 'meta' }, ['question ', h('bdi', {}, question.qid), ' · video ', h('bdi', {}, question.video), ` · ${question.show} · ${question.kind.replaceAll('_', ' ')}`, question.right && [' · right: ', h('bdi', {}, question.right)]]));
}

function oneTrace(row, trace, question, letter) {
  return h('section', { class: 'one', 'aria-label': `${letter} ${DATA.runs[row.run].name}`.trim() },
    h('h3', { class: 'who' }, letter && h('b', { class: 'letter' }, letter), runName(row.run), verdict(row)),
    optionList(row, trace, question),
    timeline(row, trace, question),
    opening(trace, question),
    h('ol', { class: 'turns' }, trace.turns.map((turn) => turnItem(turn, trace, question))),
    trace.error && h('p', { class: 'failure', dir: 'auto' }, h('b', {}, 'Failed. '), trace.error),
    numbers(row, trace));
}

function verdict(row) {
  const outcome = outcomeOf(row);
  const ends = {
    out_of_turns: 'out of turns, no answer',
    out_of_context: 'out of context, no answer',
    out_of_budget: 'out of budget, no answer',
  };
  return h('span', { class: 'verdict' },
    h('span', { class: `pill ${outcome}` }, `${MARK[outcome]} ${WORD[outcome]}`),
    row.unused && h('span', { class: 'pill plain' }, `not used in the update: ${row.unused}`),
    ends[row.status] && h('span', { class: 'pill plain' }, ends[row.status]),
    row.reward !== undefined && h('span', { class: 'fact' }, `reward ${num(row.reward)}`),
    row.adv !== undefined && h('span', { class: 'fact' }, `advantage ${signed(row.adv)}`));
}

function optionList(row, trace, question) {
  const order = trace.order || question.options.map((_, i) => i);
  return h('ul', { class: 'options' }, order.map((original, i) => {
    const chosen = row.choice === original;
    const truth = question.answer === original;
    const words = [chosen && 'chosen', truth && 'truth'].filter(Boolean).join(', ');
    return h('li', { class: [chosen && 'chosen', truth && 'truth', chosen && question.answer !== null && !truth && 'miss'].filter(Boolean).join(' ') },
      h('span', { class: 'label' }, label(i)), h('span', { class: 'text', dir: 'auto' }, question.options[original]), words && h('span', { class: 'said' }, words));
  }));
}

/** The clips of the video in order, with the turns that showed them and the gold clip. */
function timeline(row, trace, question) {
  const when = new Map();
  const mark = (clips, word) => (clips || []).forEach((clip) => when.set(clip, [...(when.get(clip) || []), word]));
  mark(trace.opened, 'start');
  trace.turns.forEach((turn) => mark(turn.shown, String(turn.n)));
  (row.visited || []).forEach((clip) => when.has(clip) || when.set(clip, ['?']));
  const looked = new Map();
  trace.turns.forEach((turn) => (turn.looked || []).forEach((clip) => looked.set(clip, [...(looked.get(clip) || []), turn.n])));
  const gold = question.gold === null ? -1 : question.clips.indexOf(question.gold);
  const cells = question.clips.map((clip, i) => {
    const shown = when.get(i);
    const said = [`${clipName(question, i)}, ${clip}`, shown && `shown ${shown.map((w) => (w === 'start' ? 'at the start' : w === '?' ? '' : `in turn ${w}`)).join(', ')}`, looked.has(i) && `looked at in turn ${looked.get(i).join(', ')}`, i === gold && 'gold clip'].filter(Boolean).join('; ');
    return h('li', { class: [shown && 'shown', i === gold && 'gold', looked.has(i) && 'looked'].filter(Boolean).join(' '), title: said },
      h('span', { 'aria-hidden': 'true' }, shown ? (shown[0] === 'start' ? '●' : shown[0]) : ''),
      (shown || i === gold) && h('span', { class: 'unseen' }, said));
  });
  const dense = question.clips.length > 60;
  return h('div', { class: `timeline${dense ? ' dense' : ''}` },
    filmStrip(question),
    h('ol', { 'aria-label': `Timeline of ${question.clips.length} clips` }, cells),
    axis(question),
    h('p', { class: 'legend' },
      h('span', {}, plural(question.clips.length, 'clip'), !question.all_clips && ' known'),
      h('span', {}, h('i', { class: 'cell shown' }, '●'), 'shown at the start'), h('span', {}, h('i', { class: 'cell shown' }, '2'), 'shown in that turn'),
      looked.size > 0 && h('span', {}, h('i', { class: 'cell shown looked' }), 'looked at'), goldText(question, gold)));
}

function goldText(question, gold) {
  if (gold < 0) return h('span', {}, 'gold clip not known');
  const answer = question.when && `; the answer at ${about(question)}${clock(question.when[0])}–${clock(question.when[1])}`;
  return h('span', {}, h('i', { class: 'cell gold' }), `gold: ${clipName(question, gold)}`, answer);
}

/** Pictures of the film, each above its clip and as wide as the distance to the next one. */
function filmStrip(question) {
  const pictures = question.strip || [];
  if (!pictures.length) return null;
  const strip = h('ul', { class: 'strip', 'aria-label': 'Pictures along the timeline' }, pictures.map(([clip, image], k) => {
    const [from, to] = question.times[clip];
    const item = h('li', {}, h('img', { src: strips[image], alt: clipName(question, clip), title: clipName(question, clip), decoding: 'async' }),
      h('span', { 'aria-hidden': 'true' }, `${about(question)}${clock((from + to) / 2)}`));
    item.style.gridColumn = `${k === 0 ? 1 : clip + 1} / ${pictures[k + 1] ? pictures[k + 1][0] + 1 : question.clips.length + 1}`;
    return item;
  }));
  strip.style.setProperty('--height', `${(100 * 9) / 16 / pictures.length}cqw`);
  strip.style.gridTemplateColumns = `repeat(${question.clips.length}, minmax(0, 1fr))`;
  return strip;
}

function axis(question) {
  if (!question.times?.length) return null;
  const note = question.exact ? null : '~ reckoned: the dataset does not say where its clips lie in the film';
  return h('p', { class: 'axis-line' }, h('span', {}, `${about(question)}${clock(question.times[0][0])}`), h('span', {}, note), h('span', {}, `${about(question)}${clock(question.times.at(-1)[1])}`));
}

function opening(trace, question) {
  const agent = trace.first?.agent;
  const where = (trace.opened || []).map((i) => clipName(question, i)).join(', ');
  return h('div', { class: 'opening' },
    h('p', {}, agent ? ['Opened by ', h('bdi', {}, agent)] : 'Opened', where && ` at ${where}`, trace.first?.error && h('span', { class: 'failure', dir: 'auto' }, ` failed: ${trace.first.error}`), '.'),
    h('details', {}, h('summary', {}, 'What the master read first'), trace.system && prose(trace.system, 'system'), prose(trace.opening, '', question)),
    trace.seen && frameStrip({ frames: trace.seen }, question));
}

const ACTIONS = { look: 'look', ground: 'ground', answer: 'answer' };

function turnItem(turn, trace, question) {
  const failed = turn.tool?.error;
  const kind = turn.bad ? 'bad' : failed ? 'toolfail' : turn.action || 'none';
  const facts = [turn.tokens && `${plural(turn.tokens, 'token')}`, turn.finish && turn.finish !== 'end_of_turn' && turn.finish !== 'stop' && `ended by ${turn.finish}`].filter(Boolean);
  return h('li', { class: `turn ${kind}` },
    h('h4', {}, `Turn ${turn.n}`,
      turn.bad ? h('span', { class: 'pill bad' }, `malformed: ${turn.bad.replaceAll('_', ' ')}`) : h('span', { class: `pill act ${turn.action}` }, ACTIONS[turn.action] || 'no action'),
      failed && h('span', { class: 'pill bad' }, 'tool failed'),
      h('span', { class: 'facts' }, facts.join(' · '))),
    turn.words && turn.words.trim() && prose(turn.words.trim(), 'words', question),
    actionLine(turn, trace, question),
    turn.tool && toolLine(turn, question),
    turn.frames && frameStrip(turn, question),
    turn.seen && frameStrip({ frames: turn.seen }, question),
    failed && h('p', { class: 'failure', dir: 'auto' }, turn.tool.error),
    turn.obs && turn.obs.trim() && prose(turn.obs.trim(), 'obs', question),
    turn.written && h('details', { class: 'written' }, h('summary', {}, 'As written'), prose(turn.written)));
}

function actionLine(turn, trace, question) {
  if (turn.bad || !turn.action) return null;
  if (turn.action === 'answer') {
    const shown = Number((turn.arg || '').slice(1));
    const original = trace.order ? trace.order[shown] : shown;
    return h('p', { class: 'action' }, h('b', {}, turn.arg), ' ', h('span', { dir: 'auto' }, question.options[original] || ''));
  }
  if (turn.action === 'ground') {
    const to = turn.shown?.length ? turn.shown.map((i) => clipName(question, i)).join(', ') : null;
    return h('p', { class: 'action' }, turn.arg && h('span', { class: 'query', dir: 'auto' }, turn.arg), to && h('span', { class: 'to' }, ` → ${to}`));
  }
  return h('p', { class: 'action' }, h('span', { class: 'query', dir: 'auto' }, turn.arg || ''), turn.looked && h('span', { class: 'to' }, ` at ${turn.looked.map((i) => clipName(question, i)).join(', ')}`));
}

/** The details that the tool reported with its reply. Long ones open on demand. */
function toolLine(turn, question) {
  const more = [...(turn.tool.more || []), ...(turn.more || [])].map(([key, value]) => [key.replaceAll('_', ' '), value]);
  const isLong = ([, value]) => value.length > 60;
  return [
    h('p', { class: 'tool' }, h('bdi', {}, turn.tool.agent || 'no agent'), more.filter((one) => !isLong(one)).map(([key, value]) => [' · ', h('span', {}, `${key} `, h('bdi', {}, value))])),
    more.filter(isLong).map(([key, value]) => h('details', {}, h('summary', {}, key), prose(value, '', question))),
  ];
}

const frameTime = (at, question) => `${about(question)}${clock(at)}`;

function frameStrip(turn, question) {
  const { sent, seen, total, frames: items } = turn.frames;
  const note = seen ? `${items.length} of the ${total} frames that the master saw` : sent ? `${items.length} of ${total} frames sent` : `${items.length} of the ${total} frames of ${turn.looked?.length > 1 ? 'these clips' : 'this clip'}; the agent did not say which it was sent`;
  return h('figure', { class: 'frames' }, h('div', {}, items.map(([image, at], k) => h('button', { type: 'button', onclick: () => enlarge(turn, question, k), 'aria-label': `Enlarge the frame ${known(at) ? `at ${frameTime(at, question)}` : k + 1}` },
    h('img', { src: frames[image], alt: '', loading: 'lazy', decoding: 'async' }), h('span', {}, known(at) ? frameTime(at, question) : `${k + 1}`)))), h('figcaption', {}, note));
}

/** A frame in a dialog. The arrow keys switch between the frames of the turn. */
function enlarge(turn, question, at) {
  const dialog = $('frame');
  const items = turn.frames.frames;
  const show = (k) => {
    at = (k + items.length) % items.length;
    const [image, time, clip] = items[at];
    fill(dialog,
      h('img', { src: frames[image], alt: `Frame ${at + 1} of ${items.length}${known(clip) ? ` of ${clipName(question, clip)}` : ''}` }),
      h('p', {}, h('span', {}, [`${at + 1} of ${items.length}`, known(time) && frameTime(time, question), known(clip) && clipName(question, clip)].filter(Boolean).join(' · ')),
        h('button', { type: 'button', onclick: () => show(at - 1), 'aria-label': 'Previous frame' }, '←'), h('button', { type: 'button', onclick: () => show(at + 1), 'aria-label': 'Next frame' }, '→'),
        h('button', { type: 'button', onclick: () => dialog.close() }, 'Close')));
  };
  dialog.onkeydown = (event) => {
    if (event.key === 'ArrowRight') show(at + 1);
    if (event.key === 'ArrowLeft') show(at - 1);
  };
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  show(at);
  dialog.showModal();
}

function numbers(row, trace) {
  const t = trace.timings;
  const rows = [
    ['model', known(t.model_s) && seconds(t.model_s)], ['tools', known(t.tools_s) && seconds(t.tools_s)], ['in all', known(t.total_s) && seconds(t.total_s)],
    ['sampled', known(trace.cost.tokens) && plural(trace.cost.tokens, 'token')], ['read', known(trace.prompt_tokens) && plural(trace.prompt_tokens, 'token')],
    ['cost', known(trace.cost.usd) && `$${trace.cost.usd.toPrecision(3)}`],
    ...Object.entries(trace.terms).map(([name, value]) => [`${name.replaceAll('_', ' ')} (reward term)`, num(value)]),
    ...Object.entries(trace.answer || {}).map(([name, value]) => [name.replaceAll('_', ' '), value]),
    ['seed', trace.seed],
  ].filter(([, value]) => value);
  return h('dl', { class: 'numbers' }, rows.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
}
