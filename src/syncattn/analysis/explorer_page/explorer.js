// The page: what is set in this tab, one question at a time, and what the answer shows.

import { $, fillMeasures, fillNumbers, fillPrediction, fillRow, fillSwitches, made }
  from "./controls.js";
import { drawFilm, drawGraph, drawMatrix, unpacked } from "./drawing.js";
import { Player } from "./player.js";

const state = {
  model: null, layer: 0, head: 0, query: null, key: 0, coordinate: null, off: new Set(),
  which: "after",
};
let models = [];
let answer = null;
let shown = null;
let place = { margin: 0, cell: 1 };
let asking = null;
let waiting = 0;

const chosenModel = () => models.find((m) => m.name === state.model);
const quoted = (i) => `${i + 1} “${answer.tokens[i]}”`;
const factor = (id) => Math.round(1000 * 2 ** Number($(id).value)) / 1000;

function question() {
  return {
    text: $("text").value, model: state.model, layer: state.layer, head: state.head,
    query: state.query, coordinate: state.coordinate,
    off: [...state.off].map((code) => JSON.parse(code)),
    strength: factor("strength"), bandwidth: factor("bandwidth"),
  };
}

async function ask() {
  if (asking !== null) asking.abort();
  asking = new AbortController();
  const mine = asking;
  document.body.classList.add("stale");
  try {
    const reply = await fetch("/api/look", {
      method: "POST", body: JSON.stringify(question()), signal: mine.signal,
      headers: { "content-type": "application/json" },
    });
    const data = await reply.json();
    if (mine !== asking) return;
    if (!reply.ok) {
      $("status").textContent = data.error;
      return;
    }
    $("status").textContent = "";
    answer = data;
    shown = { before: unpacked(data.before.matrix) };
    shown.after = data.after === null ? shown.before : unpacked(data.after.matrix);
    show();
    document.body.classList.remove("stale");
    document.body.dataset.answered = String(Number(document.body.dataset.answered || 0) + 1);
  } catch (error) {
    if (error.name === "AbortError") return;
    $("status").textContent = "The explorer does not answer; is it still running?";
  }
}

function askSoon(milliseconds) {
  clearTimeout(waiting);
  waiting = setTimeout(ask, milliseconds);
}

const half = () => (state.which === "after" && answer.after !== null ? answer.after : answer.before);

function show() {
  const last = answer.tokens.length - 1;
  state.key = Math.min(state.key, last);
  for (const [id, value] of [["query", answer.query], ["key", state.key]]) {
    $(id).max = last;
    $(id).value = value;
  }
  $("notices").replaceChildren(...answer.notices.map((n) => made("li", n)));
  $("changed").textContent = answer.changed.length === 0
    ? "Everything couples as trained." : `Changed: ${answer.changed.join("; ")}.`;
  $("restore").disabled = answer.changed.length === 0;
  $("which").disabled = answer.after === null;
  fillPrediction($("prediction"), answer);
  $("after-token").textContent = quoted(answer.query);
  $("moved").textContent = answer.moved === null
    ? "Switch a coupling off to see the prediction change."
    : `${(100 * answer.moved).toFixed(1)} % of the probability moved.`;
  fillMeasures($("measures"), answer.before.measures,
    answer.after === null ? null : answer.after.measures);
  fillTokens();
  showFilm();
  draw();
}

function fillTokens() {
  $("tokens").replaceChildren(...answer.tokens.map((token, i) => {
    const span = made("span", token, { "data-place": i });
    if (token === "⏎") span.append("\n");
    return span;
  }));
}

function draw() {
  if (answer === null) return;
  const matrix = shown[state.which];
  const { tokens, query } = answer;
  place = drawMatrix($("matrix"), matrix, tokens, query, state.key);
  fillRow($("row"), matrix, tokens, query);
  for (const [id, i] of [["query", query], ["key", state.key]]) {
    $(`${id}-name`).textContent = quoted(i);
    $(id).setAttribute("aria-valuetext", quoted(i));
  }
  document.querySelectorAll("#tokens span").forEach((span, i) => {
    span.classList.toggle("chosen", i === query);
    span.classList.toggle("other", i === state.key && i !== query);
  });
  $("dots-note").hidden = matrix.locked === null;
  $("cell").textContent = sentence(matrix);
  $("matrix").setAttribute("aria-label",
    `Matrix of weights, ${tokens.length} by ${tokens.length} tokens. ${$("cell").textContent}`);
  drawLinks();
  drawMoment(player.moment);
}

function sentence(matrix) {
  const at = answer.query * matrix.n + state.key;
  const who = `Token ${quoted(answer.query)}`;
  const whom = state.key === answer.query ? "itself" : `token ${quoted(state.key)}`;
  if (!matrix.visible[at]) return `${who} does not see ${whom}.`;
  const locked = matrix.locked === null ? "" : matrix.locked[at] ? "; locked" : "; not locked";
  const weight = matrix.weights[at] === 0 ? "0" : matrix.weights[at].toPrecision(3);
  return `${who} reads ${whom} with weight ${weight}${locked}.`;
}

function drawLinks() {
  const none = shown.before.locked === null;
  $("graph").hidden = none;
  if (none) {
    $("links").textContent = "Softmax has no oscillators: nothing locks.";
    return;
  }
  const after = answer.after === null ? null : shown.after;
  const found = drawGraph($("graph"), shown.before, after, answer.tokens, answer.query);
  const total = found.kept + found.gained;
  const news = after === null ? "" : `, ${found.gained} new, ${found.lost} lost`;
  $("links").textContent = `${total} links between tokens${news}.`;
  $("graph").setAttribute("aria-label", `Lock graph over the text: ${$("links").textContent}`);
}

function showFilm() {
  const { film } = half();
  player.load(film === null ? 0 : film.moments.length);
  $("film").hidden = film === null;
  $("film-meaning").textContent = film === null
    ? nothingMoves()
    : `${film.meaning} Later tokens lie further out; the line from the centre is their mean.`;
  if (film !== null && film.coordinate !== null) $("coordinate").value = String(film.coordinate);
}

function nothingMoves() {
  return chosenModel().mechanism === "softmax"
    ? "Softmax has no oscillators: nothing settles."
    : "This head is off: nothing drives its oscillators.";
}

function drawMoment(moment) {
  if (answer === null) return;
  const { film } = half();
  if (film === null) {
    $("moment").textContent = "–";
    return;
  }
  const first = Math.min(Math.floor(moment), film.moments.length - 1);
  const next = Math.min(first + 1, film.moments.length - 1);
  const now = film.moments[first] + (moment - first) * (film.moments[next] - film.moments[first]);
  const coherence = drawFilm($("film"), film, moment, answer.tokens, answer.query, state.key);
  const end = film.moments[film.moments.length - 1];
  const digits = film.axis === "time" ? 2 : 1;
  const text = `${film.axis} ${now.toFixed(digits)} of ${end.toFixed(digits)}, ` +
    `coherence ${coherence.toFixed(2)}`;
  $("moment").textContent = text;
  $("scrub").setAttribute("aria-valuetext", text);
  $("film").setAttribute("aria-label", `Phases on a circle: ${text}`);
}

const player = new Player($("play"), $("scrub"), drawMoment);

function chooseModel() {
  const model = chosenModel();
  state.layer = fillNumbers($("layer"), model.layers, state.layer);
  state.head = fillNumbers($("head"), model.heads, state.head);
  state.off.clear();
  state.coordinate = null;
  for (const id of ["strength", "bandwidth"]) $(id).value = 0;
  showFactors();
  $("tuning").hidden = model.mechanism !== "selective";
  $("coordinate-choice").hidden = model.coordinates === null;
  if (model.coordinates !== null) fillNumbers($("coordinate"), model.coordinates, 0);
  refillSwitches();
}

function refillSwitches() {
  fillSwitches($("switches"), chosenModel(), state.layer, state.head, state.off, ask);
}

function showFactors() {
  for (const id of ["strength", "bandwidth"]) {
    $(`${id}-value`).textContent = factor(id).toFixed(2);
    $(id).setAttribute("aria-valuetext", `times ${factor(id).toFixed(2)}`);
  }
}

function choose(query, key) {
  if (key !== null) state.key = key;
  if (query !== null && query !== answer.query) {
    state.query = query;
    answer.query = query;
    askSoon(120);
  }
  draw();
}

function listen() {
  $("text").addEventListener("input", () => {
    state.query = null;
    askSoon(200);
  });
  $("model").addEventListener("change", () => {
    state.model = $("model").value;
    chooseModel();
    ask();
  });
  for (const id of ["layer", "head"]) {
    $(id).addEventListener("change", () => {
      state[id] = Number($(id).value);
      state.coordinate = null;
      refillSwitches();
      ask();
    });
  }
  $("coordinate").addEventListener("change", () => {
    state.coordinate = Number($("coordinate").value);
    ask();
  });
  $("query").addEventListener("input", () => answer && choose(Number($("query").value), null));
  $("key").addEventListener("input", () => answer && choose(null, Number($("key").value)));
  for (const id of ["strength", "bandwidth"]) {
    $(id).addEventListener("input", () => {
      showFactors();
      askSoon(60);
    });
  }
  $("restore").addEventListener("click", () => {
    state.off.clear();
    for (const id of ["strength", "bandwidth"]) $(id).value = 0;
    showFactors();
    refillSwitches();
    ask();
  });
  $("which").addEventListener("change", (event) => {
    state.which = event.target.value;
    showFilm();
    draw();
  });
  $("matrix").addEventListener("click", (event) => {
    if (answer === null) return;
    const at = (x) => Math.floor(x / place.cell);
    const [row, column] = [at(event.offsetY), at(event.offsetX - place.margin)];
    const inside = (i) => i >= 0 && i < answer.tokens.length;
    if (inside(row) && inside(column)) choose(row, column);
  });
  $("tokens").addEventListener("click", (event) => {
    if (event.target.dataset.place !== undefined) choose(Number(event.target.dataset.place), null);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(() => requestAnimationFrame(draw)).observe(document.querySelector("main"));
}

async function start() {
  const described = await (await fetch("/api/run")).json();
  models = described.models;
  $("run").textContent = described.title;
  document.title = `${described.title} – syncattn explorer`;
  $("text").value = described.text;
  $("model").replaceChildren(...models.map((m) => made("option", m.name, { value: m.name })));
  state.model = described.model ?? models[0].name;
  $("model").value = state.model;
  chooseModel();
  listen();
  await ask();
}

start();
