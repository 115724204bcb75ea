// A training run: its curves, and the groups of a step with rewards and advantages.

async function drawTraining() {
  const run = Number(place.params.run ?? DATA.trainings[0]);
  const data = DATA.runs[run];
  const steps = data.steps;
  const at = Math.max(0, steps.findIndex((one) => String(one.step) === place.params.step));
  const root = h('div', { class: 'page' },
    DATA.trainings.length > 1 && h('p', { class: 'runs-pick' }, DATA.trainings.map((i) => h('a', { href: linkTo('training', { run: i }), 'aria-current': i === run ? 'true' : null }, runName(i)))),
    data.curves ? section(`Curves: ${data.name}`, curveNote(run), curvePanels(data.curves)) : h('p', { class: 'note' }, 'No metrics.jsonl lies beside these rollouts: there are no curves.'),
    steps.length ? stepSection(run, steps, at) : h('p', { class: 'note' }, 'No rollouts were saved (--save_rollouts).'));
  fill($('main'), root);
  if (steps.length) await fillGroups(run, steps[at]);
  if (refocus && $(refocus)) $(refocus).focus();
  refocus = null;
}

let refocus = null;

function toStep(run, steps, at, from) {
  refocus = from;
  go('training', { run, step: steps[Math.min(steps.length - 1, Math.max(0, at))].step }, true);
}

function stepSection(run, steps, at) {
  const rows = steps[at].groups.flatMap((group) => group.episodes.map((i) => DATA.episodes[i]));
  const rewards = rows.map((row) => row.reward).filter(known);
  const scored = rows.filter((row) => row.correct !== undefined);
  const flat = steps[at].groups.filter((group) => !(group.std > 1e-6)).length;
  const pick = h('select', { id: 'step-pick', onchange: (event) => toStep(run, steps, Number(event.target.value), 'step-pick') }, steps.map((one, i) => option(String(i), `step ${one.step}`)));
  pick.value = String(at);
  const slide = h('input', { id: 'step-slide', type: 'range', min: 0, max: steps.length - 1, 'aria-label': 'Training step', 'aria-valuetext': `step ${steps[at].step}`, onchange: (event) => toStep(run, steps, Number(event.target.value), 'step-slide') });
  slide.value = String(at);
  return h('section', { 'aria-label': 'Rollouts of a step' },
    h('h2', {}, 'Rollouts'),
    h('div', { class: 'step-bar' },
      h('label', {}, h('span', { class: 'unseen' }, 'Training step'), pick),
      h('button', { type: 'button', id: 'step-back', disabled: at === 0, onclick: () => toStep(run, steps, at - 1, 'step-back') }, '← Previous step'),
      h('button', { type: 'button', id: 'step-on', disabled: at === steps.length - 1, onclick: () => toStep(run, steps, at + 1, 'step-on') }, 'Next step →'),
      steps.length > 2 && slide,
      h('span', { class: 'fact' }, `${plural(steps[at].groups.length, 'group')}, ${plural(rows.length, 'episode')}; reward ${num(rewards.reduce((a, b) => a + b, 0) / (rewards.length || 1))}; ${pct(scored.filter((row) => row.correct).length / (scored.length || 1))} right; ${plural(flat, 'group')} without signal`),
      h('a', { href: linkTo('episodes', { run, step: steps[at].step }) }, 'As a list')),
    h('p', { class: 'note' }, 'A column is one rollout. Advantage: the reward less the group’s mean, over its standard deviation + 10⁻⁴, unless the trainer saved its own.'),
    h('div', { id: 'groups' }));
}

async function fillGroups(run, step) {
  const holder = $('groups');
  const traces = await Promise.all(step.groups.map((group) => Promise.all(group.episodes.map((i) => traceOf(DATA.episodes[i])))));
  if (!holder.isConnected) return;
  fill(holder, ...step.groups.map((group, g) => groupItem(run, step, group, traces[g])));
}

function groupItem(run, step, group, traces) {
  const rows = group.episodes.map((i) => DATA.episodes[i]);
  const question = DATA.questions[rows[0].q];
  const truth = question.answer === null ? null : question.options[question.answer];
  const most = Math.max(1, ...rows.map((row) => Math.abs(row.adv ?? 0)));
  return h('section', { class: 'group', 'aria-label': `Group of question ${group.qid}` },
    h('h3', { dir: 'auto' }, question.text),
    h('p', { class: 'meta' }, h('bdi', {}, question.qid), ` · ${question.kind.replaceAll('_', ' ')}`, truth && [' · truth: ', h('bdi', {}, truth)],
      ` · reward ${num(group.mean)} ± ${num(group.std)}`, !(group.std > 1e-6) && h('span', { class: 'pill plain' }, 'without signal'),
      rows.every((row) => row.unused === 'refilled') && h('span', { class: 'pill plain' }, 'played again with another question')),
    h('ol', { class: 'cards', tabindex: '0', 'aria-label': 'Rollouts, can be scrolled sideways' }, rows.map((row, i) => card(row, traces[i], question, step, run, most))));
}

function card(row, trace, question, step, run, most) {
  const outcome = outcomeOf(row);
  const level = row.adv ?? 0;
  const bar = h('span', { class: level < 0 ? 'adv-bar minus' : 'adv-bar plus' });
  bar.style.width = `${(50 * Math.abs(level)) / most}%`;
  bar.style[level < 0 ? 'right' : 'left'] = '50%';
  return h('li', { class: `card ${outcome}` },
    h('a', { href: linkTo('episodes', { run, step: step.step, e: `${row.run}/${row.id}` }) },
      h('span', { class: 'card-head' }, h('span', { class: `mark ${outcome}`, title: WORD[outcome] }, MARK[outcome]), `sample ${row.sample}`, h('span', { class: 'unseen' }, `, ${WORD[outcome]}`)),
      h('span', { class: 'card-nums' }, h('span', {}, 'reward ', h('b', {}, num(row.reward))), h('span', {}, 'adv. ', h('b', {}, signed(row.adv)))),
      h('span', { class: 'adv', 'aria-hidden': 'true' }, bar)),
    h('ol', { class: 'steps' }, trace.turns.map((turn) => h('li', { class: turn.bad ? 'bad' : '' },
      h('span', { class: `pill act ${turn.bad ? 'bad' : turn.action}` }, turn.bad ? 'malformed' : turn.action === 'answer' ? turn.arg : turn.action),
      h('span', { class: 'said', dir: 'auto' }, short(turn, trace, question))))),
    trace.error && h('p', { class: 'failure' }, trace.error.slice(0, 160)));
}

/** A turn in a few words. */
function short(turn, trace, question) {
  const words = (turn.words || '').replace(MARKUP, ' ').replace(/\s+/g, ' ').trim();
  return words.length > 140 ? `${words.slice(0, 139)}…` : words;
}
