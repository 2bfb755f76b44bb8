// Pictures on canvases: the matrix, the lock graph and the phases on a circle.

const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function prepared(canvas, height) {
  const width = canvas.clientWidth;
  const scale = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "10px ui-monospace, monospace";
  return pen;
}

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function bits(text, count) {
  const packed = bytes(text);
  return Uint8Array.from({ length: count }, (_, i) => (packed[i >> 3] >> (i & 7)) & 1);
}

/** Unpacks one head's matrix. */
export function unpacked(packed) {
  const n = packed.tokens.length;
  const raw = bytes(packed.weights);
  const weights = Float64Array.from(
    { length: n * n },
    (_, i) => (raw[2 * i] + 256 * raw[2 * i + 1]) / 65534,
  );
  return {
    n,
    weights,
    visible: bits(packed.visible, n * n),
    locked: packed.locked === null ? null : bits(packed.locked, n * n),
  };
}

function rgb(text) {
  const value = parseInt(text.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

function ramp() {
  const low = rgb(colour("--ramp-low"));
  const high = rgb(colour("--ramp-high"));
  return Array.from({ length: 65 }, (_, i) =>
    `rgb(${low.map((x, k) => Math.round(x + ((high[k] - x) * i) / 64)).join(",")})`,
  );
}

function hatched(pen, x, y, side) {
  pen.fillStyle = colour("--hidden");
  pen.fillRect(x, y, side, side);
  pen.save();
  pen.beginPath();
  pen.rect(x, y, side, side);
  pen.clip();
  pen.strokeStyle = colour("--hatch");
  pen.lineWidth = 0.7;
  pen.beginPath();
  for (let d = -side; d < side; d += 7) {
    pen.moveTo(x + d, y + side);
    pen.lineTo(x + d + side, y);
  }
  pen.stroke();
  pen.restore();
}

/** Draws a matrix and returns where its cells are. */
export function drawMatrix(canvas, matrix, tokens, query, key) {
  const { n } = matrix;
  const room = canvas.clientWidth;
  const labelled = n <= 72 && (room - 24) / n >= 7;
  const margin = labelled ? 8 + 6.1 * Math.min(4, Math.max(...tokens.map((t) => t.length))) : 0;
  const side = Math.min(room - margin, 560);
  const pen = prepared(canvas, side + margin + 2);
  const cell = side / n;
  hatched(pen, margin, 0, side);
  const shades = ramp();
  const largest = matrix.weights.reduce((a, b) => Math.max(a, b), 0) || 1;
  const empty = colour("--panel");
  const dot = colour("--dot");
  const pad = cell >= 6 ? 0.5 : 0;
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; column++) {
      const at = row * n + column;
      if (!matrix.visible[at]) continue;
      const w = matrix.weights[at];
      pen.fillStyle = w > 0 ? shades[Math.ceil(64 * Math.sqrt(w / largest))] : empty;
      pen.fillRect(margin + column * cell, row * cell, cell - pad + 0.05, cell - pad + 0.05);
    }
  }
  if (matrix.locked !== null && cell >= 5) {
    pen.fillStyle = dot;
    for (let at = 0; at < n * n; at++) {
      if (!matrix.locked[at] || !matrix.visible[at]) continue;
      pen.beginPath();
      const x = margin + ((at % n) + 0.5) * cell;
      pen.arc(x, (Math.floor(at / n) + 0.5) * cell, Math.min(2.2, cell / 6), 0, 7);
      pen.fill();
    }
  }
  if (labelled) labels(pen, tokens, margin, side, cell);
  pen.lineWidth = 1.5;
  pen.strokeStyle = colour("--accent");
  pen.strokeRect(margin + 0.75, query * cell, side - 1.5, Math.max(cell, 2));
  pen.strokeStyle = dot;
  pen.strokeRect(margin + key * cell, 0.75, Math.max(cell, 2), side - 1.5);
  return { margin, cell };
}

function labels(pen, tokens, margin, side, cell) {
  pen.fillStyle = colour("--soft");
  pen.textBaseline = "middle";
  tokens.forEach((token, i) => {
    pen.textAlign = "right";
    pen.fillText(token.slice(0, 4), margin - 4, (i + 0.5) * cell);
    pen.save();
    pen.translate(margin + (i + 0.5) * cell, side + 4);
    pen.rotate(-Math.PI / 2);
    pen.fillText(token.slice(0, 4), 0, 0);
    pen.restore();
  });
}

const BUNDLE = 48;

function strokeAll(pen, places, arc, width, alpha) {
  pen.lineWidth = width;
  pen.globalAlpha = alpha;
  pen.beginPath();
  places.forEach(arc);
  pen.stroke();
}

/** Returns the places of a matrix at which two tokens lock. */
function links(matrix) {
  const found = new Set();
  if (matrix === null || matrix.locked === null) return found;
  for (let row = 1; row < matrix.n; row++) {
    for (let column = 0; column < row; column++) {
      const at = row * matrix.n + column;
      if (matrix.locked[at] && matrix.visible[at]) found.add(at);
    }
  }
  return found;
}

/** Draws the lock graph as arcs over the text and returns how many links came and went. */
export function drawGraph(canvas, before, after, tokens, query) {
  const { n } = before;
  const room = canvas.clientWidth;
  const step = room / n;
  const height = Math.min(230, 40 + room / 3);
  const pen = prepared(canvas, height);
  const base = height - 16;
  const old = links(before);
  const now = after === null ? old : links(after);
  const groups = { kept: [], gained: [], lost: [] };
  for (const at of now) (old.has(at) ? groups.kept : groups.gained).push(at);
  for (const at of old) if (!now.has(at)) groups.lost.push(at);
  const reach = [...old, ...now].reduce((a, at) => Math.max(a, Math.floor(at / n) - (at % n)), 8);
  const thin = Math.max(0.08, Math.min(0.55, 60 / Math.sqrt(1 + old.size * 8)));
  const style = {
    kept: ["--kept", 0.8, [], thin],
    lost: ["--lost", 1, [4, 3], Math.max(thin, 0.35)],
    gained: ["--gained", 1.7, [], Math.max(thin, 0.5)],
  };
  const arc = (at) => {
    const [row, column] = [Math.floor(at / n), at % n];
    const [x, y] = [(column + 0.5) * step, (row + 0.5) * step];
    const tall = ((row - column) / reach) * (base - 4);
    pen.moveTo(x, base);
    pen.ellipse((x + y) / 2, base, (y - x) / 2, tall, 0, Math.PI, 0);
  };
  const chosen = (at) => Math.floor(at / n) === query || at % n === query;
  for (const [name, [tint, width, dash, alpha]] of Object.entries(style)) {
    pen.strokeStyle = colour(tint);
    pen.setLineDash(dash);
    const others = groups[name].filter((at) => !chosen(at));
    // Bundles are drawn at once, since a stroke for each of 20,000 arcs takes too long.
    for (let first = 0; first < others.length; first += BUNDLE) {
      strokeAll(pen, others.slice(first, first + BUNDLE), arc, width, alpha);
    }
    strokeAll(pen, groups[name].filter(chosen), arc, width + 0.7, 1);
  }
  pen.globalAlpha = 1;
  pen.setLineDash([]);
  pen.textAlign = "center";
  tokens.forEach((token, i) => {
    pen.fillStyle = colour(i === query ? "--accent" : "--soft");
    if (step >= 7) pen.fillText(token.length === 1 ? token : "▪", (i + 0.5) * step, height - 4);
    else pen.fillRect((i + 0.5) * step - 0.5, base + 2, 1, i === query ? 12 : 4);
  });
  return { kept: groups.kept.length, gained: groups.gained.length, lost: groups.lost.length };
}

function between(rows, moment) {
  const first = Math.min(Math.floor(moment), rows.length - 1);
  const next = Math.min(first + 1, rows.length - 1);
  const part = moment - first;
  return rows[first].map((x, i) => x + (rows[next][i] - x) * part);
}

/** Draws dots on a circle at a moment, and the read-out of the chosen token where it changes. */
export function drawFilm(canvas, film, moment, tokens, query, key) {
  const room = canvas.clientWidth;
  const strip = film.weights === null ? 0 : 76;
  const side = Math.min(room, 340);
  const pen = prepared(canvas, side + strip);
  const [cx, cy, radius] = [room / 2, side / 2, side / 2 - 18];
  pen.strokeStyle = colour("--line");
  pen.fillStyle = colour("--soft");
  pen.lineWidth = 1;
  pen.beginPath();
  pen.arc(cx, cy, radius, 0, 7);
  pen.moveTo(cx - radius, cy);
  pen.lineTo(cx + radius, cy);
  pen.moveTo(cx, cy - radius);
  pen.lineTo(cx, cy + radius);
  pen.stroke();
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  pen.fillText("0", cx + radius + 11, cy);
  pen.textAlign = "center";
  pen.fillText("π/2", cx, cy - radius - 9);
  const angle = between(film.angle, moment);
  dots(pen, angle, film, { cx, cy, radius, query, key });
  const mean = [0, 1].map((k) =>
    angle.reduce((sum, a) => sum + (k ? Math.sin(a) : Math.cos(a)), 0) / angle.length,
  );
  pen.strokeStyle = colour("--ink");
  pen.lineWidth = 2.5;
  pen.beginPath();
  pen.moveTo(cx, cy);
  pen.lineTo(cx + radius * mean[0], cy - radius * mean[1]);
  pen.stroke();
  if (strip) readout(pen, between(film.weights, moment), film, { room, side, strip, tokens, key });
  return Math.hypot(...mean);
}

function dots(pen, angle, film, { cx, cy, radius, query, key }) {
  const n = angle.length;
  const size = n > 90 ? 2.6 : 4;
  const order = angle.map((_, i) => i).filter((i) => i !== query && i !== key);
  for (const i of [...order, key, query]) {
    if (i >= n) continue;
    const r = radius * (0.5 + (0.5 * (i + 1)) / n);
    const [x, y] = [cx + r * Math.cos(angle[i]), cy - r * Math.sin(angle[i])];
    const tint = i === query ? "--accent" : i === key ? "--dot" : "--kept";
    pen.beginPath();
    pen.arc(x, y, i === query || i === key ? size + 2.2 : size, 0, 7);
    if (film.locked !== null && !film.locked[i]) {
      pen.strokeStyle = colour(tint);
      pen.lineWidth = 1.3;
      pen.stroke();
    } else {
      pen.fillStyle = colour(tint);
      pen.fill();
    }
  }
}

function readout(pen, weights, film, { room, side, strip, tokens, key }) {
  const largest = Math.max(...film.weights.map((row) => Math.max(...row))) || 1;
  const step = room / weights.length;
  const base = side + strip - 14;
  weights.forEach((w, i) => {
    const tall = (w / largest) * (strip - 26);
    pen.fillStyle = colour(i === key ? "--dot" : "--accent");
    pen.fillRect(i * step, base - tall, Math.max(step - 1, 0.8), tall);
    pen.fillStyle = colour("--soft");
    if (step >= 7) pen.fillText(tokens[i].length === 1 ? tokens[i] : "▪", (i + 0.5) * step, base + 7);
  });
  pen.textAlign = "left";
  pen.fillText(`what the chosen token reads (up to ${largest.toFixed(3)})`, 0, side + 5);
}
