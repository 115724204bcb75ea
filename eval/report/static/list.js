// The list of the filtered episodes. Only the visible rows exist.

const ROW = 74;
const MARK = { right: '✓', wrong: '✗', failed: '!', unscored: '·' };
const WORD = { right: 'right', wrong: 'wrong', failed: 'failed', unscored: 'no gold answer' };

let found = [];
let listed = null; // the inputs of the current list
let hooks = null;

const option = (value, text) => h('option', { value }, text);

function choice(name, text, options, f) {
  const control = h('select', { id: `f-${name}`, onchange: (event) => setFilter(name, event.target.value) }, options.map(([value, words]) => option(value, words)));
  control.value = f[name];
  return h('label', { class: f[name] !== DEFAULTS[name] ? 'on' : '' }, h('span', {}, text), control);
}

const values = (pick) => [...new Set(DATA.episodes.map(pick).filter(known))];
const named = (table) => Object.entries(table).map(([key, [text]]) => [key, text]);

function setFilter(name, value) {
  const params = { ...place.params, [name]: value };
  if (name === 'run' && value === params.vs) params.vs = params.diff = '';
  if (name === 'vs' && value === '') params.diff = '';
  if (name === 'vs' && value !== '' && (params.run ?? 'all') === 'all') params.run = String(DATA.evaluations.find((i) => String(i) !== value));
  go('episodes', params, true);
}

function filterBar(f) {
  const kinds = [...new Set(DATA.questions.map((q) => q.kind))].sort();
  const shows = [...new Set(DATA.questions.map((q) => q.show))].sort();
  const turns = values((row) => row.turns).sort((a, b) => a - b);
  const steps = values((row) => row.step).sort((a, b) => a - b);
  const runs = DATA.runs.map((run, i) => [String(i), run.name]);
  const others = DATA.evaluations.filter((i) => String(i) !== f.run).map((i) => [String(i), DATA.runs[i].name]);
  const search = h('input', { id: 'f-q', type: 'search', placeholder: 'Search questions, replies, observations', autocomplete: 'off', spellcheck: 'false', 'aria-keyshortcuts': '/', oninput: onSearch });
  search.value = f.q;
  const active = Object.keys(DEFAULTS).filter((name) => ['kind', 'show', 'tool', 'turns', 'gold', 'step'].includes(name) && f[name] !== DEFAULTS[name]).length;
  return h('form', { class: 'filters', role: 'search', 'aria-label': 'Filter episodes', onsubmit: (event) => event.preventDefault() },
    h('div', { class: 'search' }, h('label', { class: 'unseen', for: 'f-q' }, 'Search'), search),
    h('div', { class: 'selects first' },
      runs.length > 1 && choice('run', 'Run', [['all', 'all runs'], ...runs], f),
      choice('outcome', 'Outcome', [['', 'any'], ['right', 'right'], ['wrong', 'wrong'], ['failed', 'failed'], ['unscored', 'no gold answer']], f),
      others.length > 0 && DATA.evaluations.length > 1 && choice('vs', 'Against run', [['', 'none'], ...others], f),
      f.vs !== '' && choice('diff', 'Difference', [['', 'any'], ...named(DIFFS)], f)),
    h('details', { open: active > 0 || moreOpen, ontoggle: (event) => { moreOpen = event.target.open; } }, h('summary', {}, 'More filters'),
      h('div', { class: 'selects' },
        choice('kind', 'Question kind', [['', 'any'], ...kinds.map((k) => [k, k.replaceAll('_', ' ')])], f),
        shows.length > 1 && choice('show', 'Show', [['', 'any'], ...shows.map((k) => [k, k])], f),
        choice('tool', 'Tools', [['', 'any'], ...named(TOOLS)], f),
        choice('turns', 'Turns', [['', 'any'], ...turns.map((n) => [String(n), n])], f),
        choice('gold', 'Gold clip', [['', 'any'], ...named(GOLD)], f),
        steps.length > 0 && choice('step', 'Training step', [['', 'any'], ...steps.map((n) => [String(n), n])], f),
        choice('sort', 'Order', [['', 'as played'], ...named(SORTS)], f))),
    h('p', { class: 'count', id: 'count' }));
}

let moreOpen = false;
let typing = null;

function onSearch(event) {
  const text = event.target.value;
  clearTimeout(typing);
  typing = setTimeout(async () => {
    if (text.trim()) {
      $('count').textContent = 'Searching …';
      await indexTexts();
    }
    go('episodes', { ...place.params, q: text }, true);
  }, 120);
}

/** The chosen option, and the right one if it differs. */
function chosen(row, question) {
  const options = question.options;
  const choice = known(row.choice) ? options[row.choice] : row.said;
  const truth = options.length ? options[question.answer] : question.right;
  if (row.correct && choice === truth) return ['chose the truth: ', h('b', {}, choice)];
  const said = known(choice) ? ['chose ', h('b', {}, choice)] : row.status === 'failed' ? 'failed' : 'no answer';
  return [said, known(truth) ? [' · truth: ', h('b', {}, truth)] : ' · truth not known'];
}

/** A row of the list. */
function rowLink(row, at, f) {
  const question = DATA.questions[row.q];
  const outcome = outcomeOf(row);
  const tools = [row.grounds && `${row.grounds} grounding`, row.looks && plural(row.looks, 'look'), row.bad && `${row.bad} malformed`].filter(Boolean).join(', ');
  const several = f.run === 'all' && DATA.runs.length > 1;
  return h('li', { class: 'item', 'aria-setsize': found.length, 'aria-posinset': at + 1 },
    h('a', { href: linkTo('episodes', { ...place.params, e: `${row.run}/${row.id}` }), class: `row ${outcome}`, 'aria-current': `${row.run}/${row.id}` === f.e ? 'true' : null, 'data-at': at },
      h('span', { class: `mark ${outcome}`, title: WORD[outcome] }, MARK[outcome], h('span', { class: 'unseen' }, ` ${WORD[outcome]}:`)),
      h('span', { class: 'what', dir: 'auto' }, question.text.slice(0, 240)),
      h('span', { class: 'choice', dir: 'auto' }, chosen(row, question)),
      h('span', { class: 'facts' },
        several && h('i', { class: `swatch run-${row.run % 8}`, title: DATA.runs[row.run].name }),
        row.step !== undefined && `step ${row.step} · `, question.kind.replaceAll('_', ' '), ' · ', plural(row.turns, 'turn'), tools && ` · ${tools}`,
        row.reward !== undefined && row.step !== undefined && ` · reward ${num(row.reward)}`)));
}

/** Draws the visible rows. */
function drawRows() {
  const { scroller, list, f } = hooks;
  const from = Math.max(0, Math.floor(scroller.scrollTop / ROW) - 6);
  const to = Math.min(found.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW) + 6);
  if (hooks.from === from && hooks.to === to) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.at : null;
  hooks.from = from;
  hooks.to = to;
  list.style.paddingTop = `${from * ROW}px`;
  list.style.height = `${found.length * ROW}px`;
  fill(list, ...found.slice(from, to).map((row, k) => rowLink(row, from + k, f)));
  if (focused !== null) list.querySelector(`[data-at="${focused}"]`)?.focus({ preventScroll: true });
}

function redrawRows() {
  hooks.from = -1;
  drawRows();
}

/** Scrolls to an episode's row. */
function reveal(at) {
  const { scroller } = hooks;
  const top = at * ROW;
  if (top < scroller.scrollTop) scroller.scrollTop = top - ROW;
  else if (top + ROW > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top - scroller.clientHeight + 2 * ROW;
}

async function drawEpisodes() {
  const f = filtersOf(place.params);
  const key = JSON.stringify({ ...f, e: '' });
  if (!hooks || !hooks.root.isConnected) {
    const list = h('ol', { class: 'rows' });
    const scroller = h('div', { class: 'scroller', onscroll: () => requestAnimationFrame(drawRows) }, list);
    const bar = h('div', { class: 'bar-holder' });
    const trace = h('article', { class: 'trace', id: 'trace', tabindex: '-1', 'aria-label': 'Episode' });
    const root = h('div', { class: 'split' }, h('section', { class: 'side', 'aria-label': 'Episodes' }, bar, scroller), trace);
    hooks = { root, list, scroller, bar, trace, f };
    listed = null;
    fill($('main'), root);
  }
  hooks.f = f;
  if (f.q.trim() && texts.length < DATA.episodes.length) await indexTexts();
  if (listed !== key) {
    found = select(f);
    listed = key;
    hooks.scroller.scrollTop = 0;
    drawBar(f);
  }
  const at = found.findIndex((row) => `${row.run}/${row.id}` === f.e);
  if (at >= 0) reveal(at);
  redrawRows();
  hooks.root.classList.toggle('open', f.e !== '');
  await drawTrace(f, at);
}

/** Draws the filters again, and keeps the focus. */
function drawBar(f) {
  const active = document.activeElement;
  const [id, caret] = hooks.bar.contains(active) ? [active.id, active.selectionStart] : [null, null];
  fill(hooks.bar, filterBar(f));
  if (id && $(id)) {
    $(id).focus();
    if (id === 'f-q') $(id).setSelectionRange(caret, caret);
  }
  const right = found.filter((row) => row.correct).length;
  const scored = found.filter((row) => row.correct !== undefined).length;
  fill($('count'), `${plural(found.length, 'episode')}${scored ? `, ${pct(right / scored)} right` : ''} `, key(f) && h('a', { href: linkTo('episodes', {}) }, 'Clear filters'));
  announce(`${plural(found.length, 'episode')} found`);
}

const key = (f) => Object.keys(DEFAULTS).some((name) => !['e', 'sort'].includes(name) && f[name] !== DEFAULTS[name]);

/** Goes to the next or the previous episode of the list. */
function move(by) {
  if (!found.length) return;
  const f = filtersOf(place.params);
  const at = found.findIndex((row) => `${row.run}/${row.id}` === f.e);
  const next = at < 0 ? (by > 0 ? 0 : found.length - 1) : at + by;
  if (next < 0 || next >= found.length) {
    announce(by > 0 ? 'This is the last episode.' : 'This is the first episode.');
    return;
  }
  go('episodes', { ...place.params, e: `${found[next].run}/${found[next].id}` });
}
