"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let printing = false;
  const redraws = [];
  const redraw = () => redraws.forEach((draw) => draw());
  const isDark = () => dark.matches && !printing;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const bit = (array, i) => (array[i >> 3] >> (i & 7)) & 1;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const shown = (label, place) => `“${label}” (${place + 1})`;

  // A canvas as sharp as the screen, whose units are CSS pixels.
  function surface(canvas, width, height) {
    const ratio = printing ? 3 : window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }
  const between = (from, to, share) => from.map((x, i) => Math.round(x + (to[i] - x) * share));
  const mix = (from, to, share) => `rgb(${between(from, to, share).join(",")})`;
  // The palest shade is not paper's, so that a small weight is not taken for none.
  function shade(weight) {
    const [pale, full] = isDark()
      ? [[28, 58, 86], [226, 240, 255]]
      : [[218, 232, 245], [8, 40, 95]];
    return between(pale, full, Math.sqrt(weight));
  }
  const tone = (name) =>
    ({
      paper: isDark() ? "#0f1317" : "#fff",
      hidden: isDark() ? "#262b31" : "#e9ebee",
      soft: isDark() ? "#a4adb7" : "#57606a",
      ink: isDark() ? "#e6e9ec" : "#1b1f24",
      rule: isDark() ? "#454d56" : "#c4cbd2",
      lock: isDark() ? "#ff8a3d" : "#d55e00",
    })[name];

  function matrix(figure) {
    const { matrix: data } = read(figure.dataset.source);
    const size = data.tokens.length;
    const weights = new Uint16Array(bytes(data.weights).buffer);
    const order = data.order && new Uint16Array(bytes(data.order).buffer);
    const locked = data.locked && bytes(data.locked);
    const visible = bytes(data.visible);
    const field = figure.querySelector(".field");
    const canvas = field.querySelector("canvas");
    const reading = figure.querySelector(".reading");
    const strip = figure.querySelector(".tokens");
    const strongest = figure.querySelector(".strongest");
    const mark = figure.querySelector(".mark input");
    let layer = 0, head = 0, row = size - 1, column = 0, scale = { left: 0, cell: 1 };

    const start = () => (layer * data.heads.length + head) * size * size;
    const weight = (q, k) => weights[start() + q * size + k] / 65534;
    const isLocked = (q, k) => locked !== null && bit(locked, start() + q * size + k) === 1;
    const isSeen = (q, k) => bit(visible, q * size + k) === 1;
    const coherence = (q) => {
      const value = order && order[(layer * data.heads.length + head) * size + q];
      return order && value !== 65535 ? (value / 65534).toFixed(2) : null;
    };
    function largest() {
      let most = 0;
      for (let i = start(); i < start() + size * size; i++) most = Math.max(most, weights[i]);
      return most / 65534 || 1;
    }
    function best(q) {
      let found = 0;
      for (let k = 1; k < size; k++) if (weight(q, k) > weight(q, found)) found = k;
      return found;
    }
    function thumb(canvas) {
      const most = largest();
      const [hidden, paper] = isDark() ? [[38, 43, 49], [15, 19, 23]] : [[233, 235, 238], [255, 255, 255]];
      canvas.width = canvas.height = size;
      const context = canvas.getContext("2d");
      const image = context.createImageData(size, size);
      for (let i = 0; i < size * size; i++) {
        const w = weights[start() + i] / 65534;
        image.data.set(!bit(visible, i) ? hidden : w > 0 ? shade(w / most) : paper, 4 * i);
        image.data[4 * i + 3] = 255;
      }
      context.putImageData(image, 0, 0);
    }
    function cells(context, left, top, cell, marks) {
      const most = largest();
      const gap = cell > 6 ? 0.5 : 0;
      for (let q = 0; q < size; q++)
        for (let k = 0; k < size; k++) {
          const seen = isSeen(q, k), w = weight(q, k);
          context.fillStyle = !seen ? tone("hidden") : w > 0 ? `rgb(${shade(w / most)})` : tone("paper");
          context.fillRect(left + k * cell, top + q * cell, cell - gap, cell - gap);
          if (marks && seen && isLocked(q, k)) {
            context.fillStyle = tone("lock");
            context.beginPath();
            context.arc(left + (k + 0.5) * cell, top + (q + 0.5) * cell, Math.max(cell * 0.14, 0.8), 0, 7);
            context.fill();
          }
        }
    }
    function draw() {
      const width = Math.max(240, field.clientWidth || 480);
      const labels = size <= 48 && width / size > 7;
      const left = labels ? 34 : 2;
      const cell = (width - left - 2) / size;
      scale = { left, cell };
      const foot = labels ? 34 : 2;
      const context = surface(canvas, width, size * cell + foot + 2);
      cells(context, left, 1, cell, mark.checked);
      context.strokeStyle = tone("rule");
      context.strokeRect(left, 1, size * cell, size * cell);
      if (labels) {
        context.font = `${Math.min(11, cell * 0.95)}px ui-monospace, monospace`;
        context.textBaseline = "middle";
        data.tokens.forEach((label, i) => {
          const at = (i + 0.5) * cell;
          context.fillStyle = i === row ? tone("lock") : tone("soft");
          context.textAlign = "right";
          context.fillText(label.slice(0, 5), left - 4, at + 1);
          context.fillStyle = i === column ? tone("lock") : tone("soft");
          context.save();
          context.translate(left + at, size * cell + 5);
          context.textAlign = label.length > 1 ? "right" : "center";
          if (label.length > 1) context.rotate(-Math.PI / 2);
          context.fillText(label.slice(0, 5), 0, label.length > 1 ? 0 : 6);
          context.restore();
        });
      }
      context.strokeStyle = tone("lock");
      context.lineWidth = 2;
      context.strokeRect(left + column * cell, 1 + row * cell, cell, cell);
    }
    function thumbs() {
      const was = [layer, head];
      for (const input of figure.querySelectorAll(".heads input")) {
        [layer, head] = input.value.split(",").map(Number);
        thumb(input.parentElement.querySelector("canvas"));
      }
      [layer, head] = was;
    }
    function tell() {
      const seen = isSeen(row, column);
      const what = seen
        ? `weight ${weight(row, column).toFixed(4)}${locked ? (isLocked(row, column) ? ", locked" : ", not locked") : ""}`
        : "hidden from it";
      const r = coherence(row);
      reading.textContent =
        `Layer ${data.layers[layer]}, head ${data.heads[head]}: ${shown(data.tokens[row], row)} reads ` +
        `${shown(data.tokens[column], column)}: ${what}.${r === null ? "" : ` R of the reader ${r}.`}`;
      const most = Math.max(weight(row, best(row)), 1e-9);
      [...strip.children].forEach((span, k) => {
        span.style.borderBottomWidth = `${Math.round(8 * Math.sqrt(weight(row, k) / most))}px`;
        span.classList.toggle("asks", k === row);
      });
    }
    function list() {
      if (!strongest.open) return;
      const rows = data.tokens.map((label, q) => {
        const k = best(q);
        let count = 0;
        for (let j = 0; j < size; j++) count += isSeen(q, j) && isLocked(q, j) ? 1 : 0;
        const cellsOf = [
          weight(q, k) > 0 ? shown(data.tokens[k], k) : "nothing",
          weight(q, k).toFixed(3), locked ? String(count) : "–", coherence(q) ?? "–",
        ];
        const line = document.createElement("tr");
        const name = document.createElement("th");
        name.scope = "row";
        name.textContent = shown(label, q);
        line.append(name, ...cellsOf.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
        return line;
      });
      strongest.querySelector("tbody").replaceChildren(...rows);
    }
    function go(q, k) {
      row = Math.min(Math.max(q, 0), size - 1);
      column = Math.min(Math.max(k, 0), size - 1);
      draw();
      tell();
    }
    function point(event) {
      const box = canvas.getBoundingClientRect();
      const k = Math.floor((event.clientX - box.left - scale.left) / scale.cell);
      const q = Math.floor((event.clientY - box.top - 1) / scale.cell);
      if (q >= 0 && q < size && k >= 0 && k < size && (q !== row || k !== column)) go(q, k);
    }
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
    field.addEventListener("focus", () => tell());
    field.addEventListener("keydown", (event) => {
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (steps[event.key]) go(row + steps[event.key][0], column + steps[event.key][1]);
      else if (event.key === "Home") go(row, 0);
      else if (event.key === "End") go(row, row);
      else return;
      event.preventDefault();
    });
    figure.querySelector(".heads").addEventListener("change", (event) => {
      [layer, head] = event.target.value.split(",").map(Number);
      go(row, best(row));
      list();
    });
    mark.addEventListener("change", draw);
    strongest.addEventListener("toggle", list);
    strip.append(
      ...data.tokens.map((label, q) => {
        const span = document.createElement("span");
        span.textContent = label;
        span.addEventListener("pointerenter", () => go(q, best(q)));
        return span;
      }),
    );
    // Browsers remember which button was checked when a page is loaded again.
    const checked = figure.querySelector(".heads input:checked");
    if (checked) [layer, head] = checked.value.split(",").map(Number);
    column = best(row);
    return () => (thumbs(), draw());
  }

  function film(figure) {
    const { film: data, matrix: { tokens } } = read(figure.dataset.source);
    const [moments, heads, size, coordinates] = data.shape;
    const phases = new Int16Array(bytes(data.phase).buffer);
    const large = figure.querySelector(".large");
    const small = figure.querySelector(".small");
    const reading = figure.querySelector(".reading");
    const play = figure.querySelector(".play");
    const scrub = figure.querySelector(".scrub input");
    const choice = (name) => Number(figure.querySelector(`.${name}`).value);
    const hop = Math.min(1000, Math.max(180, 9000 / moments));
    let position = 0, timer = 0, last = 0, width = 300;

    function raw(moment, token, coordinate) {
      const value = phases[((moment * heads + choice("head")) * size + token) * coordinates + coordinate];
      return value === -32768 ? NaN : (value / 32767) * Math.PI;
    }
    function phase(token, coordinate) {
      const before = Math.floor(position);
      const a = raw(before, token, coordinate);
      if (position === before) return a;
      const b = raw(before + 1, token, coordinate);
      const way = Math.atan2(Math.sin(b - a), Math.cos(b - a));
      return a + way * (position - before);
    }
    function mean(coordinate) {
      let x = 0, y = 0, n = 0;
      for (let t = 0; t < size; t++) {
        const angle = phase(t, coordinate);
        if (Number.isNaN(angle)) continue;
        x += Math.cos(angle);
        y += Math.sin(angle);
        n++;
      }
      return n ? { r: Math.hypot(x, y) / n, angle: Math.atan2(y, x) } : { r: NaN, angle: 0 };
    }
    // From blue to orange, of like lightness on either ground.
    const colour = (t) =>
      isDark() ? mix([110, 190, 255], [255, 170, 90], t / size) : mix([0, 90, 170], [200, 80, 0], t / size);
    function circle(context, x, y, radius, coordinate, dot) {
      context.strokeStyle = tone("rule");
      context.lineWidth = 1;
      for (const share of dot > 2 ? [1, 0.6] : [1]) {
        context.beginPath();
        context.arc(x, y, radius * share, 0, 2 * Math.PI);
        context.stroke();
      }
      for (let t = 0; t < size; t++) {
        const angle = phase(t, coordinate);
        if (Number.isNaN(angle)) continue;
        const out = radius * (0.6 + (0.4 * (t + 0.5)) / size);
        context.fillStyle = colour(t);
        context.beginPath();
        context.arc(x + out * Math.cos(angle), y - out * Math.sin(angle), dot, 0, 7);
        context.fill();
      }
      const { r, angle } = mean(coordinate);
      if (Number.isNaN(r)) return;
      const [tipX, tipY] = [x + radius * r * Math.cos(angle), y - radius * r * Math.sin(angle)];
      context.strokeStyle = context.fillStyle = tone("ink");
      context.lineWidth = dot > 2 ? 2.5 : 1.2;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(tipX, tipY);
      context.stroke();
      context.beginPath();
      context.arc(tipX, tipY, dot > 2 ? 4 : 1.8, 0, 7);
      context.fill();
    }
    function followed(context, x, y, radius) {
      const token = choice("follow");
      if (token < 0) return;
      const coordinate = choice("coordinate");
      const out = radius * (0.6 + (0.4 * (token + 0.5)) / size);
      const angle = phase(token, coordinate);
      if (Number.isNaN(angle)) return;
      context.strokeStyle = tone("lock");
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x + out * Math.cos(angle), y - out * Math.sin(angle), 7, 0, 7);
      context.stroke();
      context.fillStyle = tone("ink");
      context.font = "14px ui-monospace, monospace";
      context.textAlign = "center";
      context.textBaseline = "middle";
      const beyond = radius + 16;
      context.fillText(tokens[token], x + beyond * Math.cos(angle), y - beyond * Math.sin(angle));
    }
    function draw() {
      width = Math.max(200, large.clientWidth);
      const context = surface(large, width, width);
      const [middle, radius] = [width / 2, width / 2 - 30];
      circle(context, middle, middle, radius, choice("coordinate"), 3.6);
      followed(context, middle, middle, radius);
      context.fillStyle = tone("soft");
      context.font = "12px system-ui, sans-serif";
      context.textAlign = "left";
      context.textBaseline = "middle";
      context.fillText("0", middle + radius + 6, middle);
      context.textAlign = "right";
      context.fillText("π", middle - radius - 6, middle);
      multiples();
    }
    function multiples() {
      const hide = coordinates < 2;
      small.hidden = hide;
      if (hide) return;
      const room = Math.max(200, small.clientWidth);
      const across = Math.max(3, Math.min(coordinates, Math.floor(room / 84)));
      const each = room / across;
      const height = each * Math.ceil(coordinates / across);
      const context = surface(small, room, height);
      for (let c = 0; c < coordinates; c++) {
        const x = ((c % across) + 0.5) * each, y = (Math.floor(c / across) + 0.5) * each;
        circle(context, x, y, each / 2 - 5, c, 1.4);
        if (c !== choice("coordinate")) continue;
        context.strokeStyle = tone("lock");
        context.lineWidth = 2;
        context.strokeRect(x - each / 2 + 1, y - each / 2 + 1, each - 2, each - 2);
      }
    }
    function tell() {
      const now = Math.round(position);
      const { r } = mean(choice("coordinate"));
      const token = choice("follow");
      const own = token < 0 ? NaN : phase(token, choice("coordinate"));
      scrub.setAttribute("aria-valuetext", data.moments[now]);
      reading.textContent =
        `${data.moments[now]}: ${Number.isNaN(r) ? "no phase is known" : `${figure.dataset.mean} ${r.toFixed(2)}`}` +
        `${Number.isNaN(own) ? "" : `; ${shown(tokens[token], token)} at ${own.toFixed(2)} radians`}.`;
    }
    function show(where) {
      position = Math.min(Math.max(where, 0), moments - 1);
      scrub.value = String(Math.round(position));
      draw();
      tell();
    }
    function pause() {
      cancelAnimationFrame(timer);
      timer = 0;
      play.textContent = "Play";
      figure.dataset.playing = "no";
      reading.setAttribute("aria-live", "polite");
      show(Math.round(position));
    }
    function tick(time) {
      const passed = time - last;
      if (still.matches) {
        // No motion: from moment to moment, none in between.
        if (passed >= Math.max(hop, 700)) {
          last = time;
          show(Math.floor(position) + 1);
        }
      } else {
        last = time;
        show(position + passed / hop);
      }
      if (position >= moments - 1) pause();
      else timer = requestAnimationFrame(tick);
    }
    play.addEventListener("click", () => {
      if (timer) return pause();
      if (position >= moments - 1) show(0);
      play.textContent = "Pause";
      figure.dataset.playing = "yes";
      // What moves is not read aloud at every step.
      reading.setAttribute("aria-live", "off");
      last = performance.now();
      timer = requestAnimationFrame(tick);
    });
    scrub.addEventListener("input", () => {
      const where = Number(scrub.value);
      if (timer) pause();
      show(where);
    });
    for (const select of figure.querySelectorAll("select")) select.addEventListener("change", () => show(position));
    small.addEventListener("click", (event) => {
      const box = small.getBoundingClientRect();
      const across = Math.max(3, Math.min(coordinates, Math.floor(box.width / 84)));
      const each = box.width / across;
      const c = Math.floor((event.clientY - box.top) / each) * across + Math.floor((event.clientX - box.left) / each);
      if (c >= 0 && c < coordinates) {
        figure.querySelector(".coordinate").value = String(c);
        show(position);
      }
    });
    position = Number(scrub.value);
    tell();
    return draw;
  }

  // A figure is made when it comes near the window, or when there is nothing else to do.
  const waiting = new Set(document.querySelectorAll("figure.matrix, figure.film"));
  function make(figure) {
    if (!waiting.delete(figure)) return;
    const draw = figure.matches(".matrix") ? matrix(figure) : film(figure);
    redraws.push(draw);
    draw();
    if (!waiting.size) document.documentElement.dataset.complete = "yes";
  }
  const near = new IntersectionObserver(
    (entries) => entries.forEach((entry) => entry.isIntersecting && make(entry.target)),
    { rootMargin: "300px" },
  );
  waiting.forEach((figure) => near.observe(figure));
  function rest() {
    const [figure] = waiting;
    if (figure) make(figure);
    if (waiting.size) setTimeout(rest, 30);
  }
  setTimeout(rest, 60);
  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    printing = true;
    waiting.forEach(make);
    redraw();
  });
  addEventListener("afterprint", () => ((printing = false), redraw()));
  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(redraw, 120);
  });
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
