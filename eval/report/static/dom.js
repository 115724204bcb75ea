// Helpers to build the page. Text from runs becomes text nodes. It is never parsed as HTML.

const SVG = 'http://www.w3.org/2000/svg';

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** An HTML element. Children that are not nodes become text. */
function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children.map(asNode));
}

/** An SVG element. */
function s(tag, attributes, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children.map(asNode));
}

function asNode(child) {
  if (Array.isArray(child)) return child.map(asNode);
  return child instanceof Node || child === null || child === undefined || child === false
    ? child
    : document.createTextNode(String(child));
}

const $ = (id) => document.getElementById(id);

function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((c) => c instanceof Node || typeof c === 'string'));
  return element;
}

/** Announces a text to screen readers. */
function announce(text) {
  $('live').textContent = text;
}

const DASH = '–';
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const pct = (value, digits = 1) => (known(value) ? `${(100 * value).toFixed(digits)}%` : DASH);
const num = (value, digits = 2) => (known(value) ? value.toFixed(digits) : DASH);
const whole = (value) => (known(value) ? Math.round(value).toLocaleString('en') : DASH);
const signed = (value, digits = 2) => (known(value) ? `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(digits)}` : DASH);
const interval = (ci) => (ci ? `${(100 * ci[0]).toFixed(1)}–${(100 * ci[1]).toFixed(1)}` : DASH);
const plural = (n, word) => `${n.toLocaleString('en')} ${word}${n === 1 ? '' : 's'}`;
const label = (i) => `a${i}`;

/** A number in the format of the commands: four digits, or a power of ten. */
function pValue(p) {
  if (p >= 0.0001) return p.toFixed(4);
  const [digits, exponent] = p.toExponential(1).split('e');
  return `${digits}·10${[...exponent].map((c) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[c] ?? (c === '-' ? '⁻' : '')).join('')}`;
}

function seconds(value) {
  if (!known(value)) return DASH;
  if (value < 0.00995) return `${(value * 1000).toFixed(1)} ms`;
  return value < 0.995 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(value < 100 ? 1 : 0)} s`;
}

/** A time in the film as minutes and seconds. Minutes may exceed 59. */
const clock = (at) => `${String(Math.floor(at / 60)).padStart(2, '0')}:${String(Math.floor(at % 60)).padStart(2, '0')}`;

/** A clip's name on this page, with its times in the film if they are known. */
function clipName(question, i, withTimes = true) {
  const times = withTimes && question.times?.[i];
  return times ? `clip ${i + 1} (${about(question)}${clock(times[0])}–${clock(times[1])})` : `clip ${i + 1}`;
}

/** The mark of an estimated time, for a dataset without clip times. */
const about = (question) => (question.exact ? '' : '~');

/** A text block, unchanged, in its own text direction. Long blocks open on demand. */
function prose(text, className = '', question = null) {
  const limit = 4000;
  const box = h('div', { class: `prose ${className}`, dir: 'auto' });
  if (text.length <= limit) return fill(box, ...dimmed(text, question));
  const more = h('button', { type: 'button', class: 'more' }, `Show all ${text.length.toLocaleString('en')} characters`);
  const part = h('div', {}, dimmed(text.slice(0, limit), question), ' …');
  more.addEventListener('click', () => {
    fill(part, text);
    part.tabIndex = 0;
    part.setAttribute('role', 'region');
    part.setAttribute('aria-label', 'The whole text');
    part.className = 'whole';
    more.remove();
    part.focus();
  });
  return fill(box, part, more);
}

const MARKUP = /<\/?(?:reasoning|think|information|new_clip|search|visual_query|request_grounding|answer)\s*\/?>|<\|[a-z_]{2,20}\|>/gi;

const WORDS = new RegExp(`${MARKUP.source}|[\\w.:-]{3,}\\w`, 'gi');

/** A text with dimmed game tags. Each clip id is followed by the clip's name on this page. */
function dimmed(text, question) {
  const nodes = [];
  let end = 0;
  const upTo = (at) => at > end && nodes.push(document.createTextNode(text.slice(end, at)));
  for (const { 0: word, index } of text.matchAll(WORDS)) {
    const clip = question ? placesOf(question).get(word) : undefined;
    if (clip === undefined && word[0] !== '<') continue;
    upTo(index);
    nodes.push(clip === undefined ? h('span', { class: 'tag' }, word) : h('span', {}, word, h('i', { class: 'clip-name' }, clipName(question, clip))));
    end = index + word.length;
  }
  upTo(text.length);
  return nodes;
}

const clipPlaces = new WeakMap();

function placesOf(question) {
  if (!clipPlaces.has(question)) clipPlaces.set(question, new Map(question.clips.map((clip, i) => [clip, i])));
  return clipPlaces.get(question);
}
