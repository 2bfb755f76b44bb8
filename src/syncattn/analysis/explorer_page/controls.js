// What can be switched: layers, heads, harmonics and delays; and tables.

export const $ = (id) => document.getElementById(id);

/** Makes an element with text and attributes. */
export function made(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Fills a select with numbers counted from 1 and keeps the choice where it still exists. */
export function fillNumbers(select, count, chosen) {
  const options = Array.from({ length: count }, (_, i) => made("option", `${i + 1}`, { value: i }));
  select.replaceChildren(...options);
  select.value = String(Math.min(chosen, count - 1));
  return Number(select.value);
}

function group(title, entries, off, changed) {
  const field = made("fieldset", "", { class: "group" });
  field.append(made("legend", title));
  for (const [name, wanted] of entries) {
    const code = JSON.stringify(wanted);
    const box = made("input", "", { type: "checkbox", "data-switch": code });
    box.checked = !off.has(code);
    box.addEventListener("change", () => {
      if (box.checked) off.delete(code);
      else off.add(code);
      changed();
    });
    const label = made("label");
    label.append(box, name);
    field.append(label);
  }
  return field;
}

const range = (first, count) => Array.from({ length: count }, (_, i) => first + i);

/** Shows the switches of the chosen layer and head; `off` holds the codes of those that are off. */
export function fillSwitches(place, model, layer, head, off, changed) {
  const groups = [
    group("Layers that couple", range(0, model.layers).map((l) => [`layer ${l + 1}`, { layer: l }]),
      off, changed),
    group(`Heads of layer ${layer + 1} that couple`,
      range(0, model.heads).map((h) => [`head ${h + 1}`, { layer, head: h }]), off, changed),
  ];
  if (model.harmonics !== null) {
    const parts = [
      ...range(1, model.harmonics).map((m) => [`harmonic ${m}`, { layer, head, harmonic: m }]),
      ...range(0, model.delays).map((s) => [
        s === 0 ? "delay 0 (the token seen)" : s === 1 ? "delay 1 (its successor)" : `delay ${s}`,
        { layer, head, delay: s },
      ]),
    ];
    groups.push(group(`Kernel of layer ${layer + 1}, head ${head + 1}`, parts, off, changed));
  }
  place.replaceChildren(...groups);
}

const percent = (p) => `${(100 * p).toFixed(p < 0.1 ? 2 : 1)} %`;

function barred(p) {
  const cell = made("td", percent(p), { class: "bar" });
  cell.style.setProperty("--share", `${Math.round(100 * p)}%`);
  return cell;
}

function candidate(row, changed, isActual) {
  const line = made("tr", "", isActual ? { class: "actual" } : {});
  line.append(made("th", row.token, { scope: "row" }), barred(row.before));
  if (!changed) {
    line.append(made("td", "–"), made("td", "–"));
    return line;
  }
  const gain = row.after - row.before;
  const sign = gain >= 0 ? "+" : "−";
  line.append(
    barred(row.after),
    made("td", `${sign}${(100 * Math.abs(gain)).toFixed(2)}`, { class: gain >= 0 ? "up" : "down" }),
  );
  return line;
}

/** Fills the table of next tokens. */
export function fillPrediction(body, answer) {
  const changed = answer.after !== null;
  const actual = answer.follows;
  const rows = answer.prediction.map((row) =>
    candidate(row, changed, actual !== null && row.token === actual.token),
  );
  const listed = answer.prediction.some((row) => actual !== null && row.token === actual.token);
  if (actual !== null && !listed) rows.push(candidate(actual, changed, true));
  body.replaceChildren(...rows);
}

/** Fills the table of measures. */
export function fillMeasures(body, before, after) {
  const shown = (value) => (value === null ? "–" : value.toFixed(3));
  body.replaceChildren(
    ...before.map((measure, i) => {
      const line = made("tr");
      line.append(
        made("th", measure.name, { scope: "row" }),
        made("td", shown(measure.value)),
        made("td", after === null ? "–" : shown(after[i].value)),
      );
      return line;
    }),
  );
}

/** Fills the table of what one token reads. */
export function fillRow(body, matrix, tokens, query) {
  const { n } = matrix;
  const keys = range(0, n).filter((k) => matrix.weights[query * n + k] > 0);
  keys.sort((a, b) => matrix.weights[query * n + b] - matrix.weights[query * n + a]);
  const rows = keys.slice(0, 8).map((k) => {
    const line = made("tr");
    const locked = matrix.locked === null ? "–" : matrix.locked[query * n + k] ? "yes" : "no";
    line.append(
      made("td", `${k + 1}`),
      made("th", tokens[k], { scope: "row" }),
      made("td", matrix.weights[query * n + k].toFixed(4)),
      made("td", locked),
    );
    return line;
  });
  if (rows.length === 0) {
    const line = made("tr");
    line.append(made("td", "Nothing: this token sees no other.", { colspan: 4 }));
    rows.push(line);
  }
  body.replaceChildren(...rows);
}
