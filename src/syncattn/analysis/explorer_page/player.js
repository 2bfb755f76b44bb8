// Play, pause and scrub.

const SECONDS = 7;

/** A player of one slider and one button; `show(moment)` draws. */
export class Player {
  constructor(button, slider, show) {
    this.button = button;
    this.slider = slider;
    this.show = show;
    this.running = false;
    this.turn = 0;
    button.addEventListener("click", () => (this.running ? this.pause() : this.play()));
    slider.addEventListener("input", () => {
      this.pause();
      this.show(Number(slider.value));
    });
  }

  /** Takes another film and keeps the share of it that has passed. */
  load(count) {
    const share = this.slider.max > 0 ? this.slider.value / this.slider.max : 0;
    // The step of a film that runs knows the length it began with.
    if (count - 1 !== Number(this.slider.max)) this.pause();
    this.slider.disabled = this.button.disabled = count < 2;
    this.slider.max = Math.max(count - 1, 0);
    this.slider.value = share * this.slider.max;
  }

  get moment() {
    return Number(this.slider.value);
  }

  play() {
    const last = Number(this.slider.max);
    if (this.moment >= last) this.slider.value = 0;
    this.running = true;
    const mine = ++this.turn;
    this.label();
    let moment = this.moment;
    // The first frame's own time may lie before the click, so the film begins with it.
    let earlier = null;
    const step = (now) => {
      if (mine !== this.turn) return;
      moment = Math.min(moment + ((now - (earlier ?? now)) / 1000 / SECONDS) * last, last);
      earlier = now;
      this.slider.value = moment;
      this.show(moment);
      if (moment >= last) this.pause();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  pause() {
    this.running = false;
    this.turn++;
    this.label();
  }

  label() {
    this.button.textContent = this.running ? "Pause" : "Play";
    this.button.setAttribute("aria-pressed", String(this.running));
  }
}
