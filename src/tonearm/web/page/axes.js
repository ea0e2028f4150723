// Axes: time below, frequency on the left.

import { clock } from "./words.js";

const TIME_STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const TIME_LABEL_PX = 64;
const HZ_STEPS = [250, 500, 1000, 2000, 4000];
const NUM_HZ = 5;
const MEL_HZ = [500, 1000, 2000, 4000, 8000];

// Slaney's mel scale, which librosa's default is: linear up to 1 kHz, then logarithmic.
function mel(hz) {
  return hz < 1000 ? hz / (200 / 3) : 15 + Math.log(hz / 1000) / (Math.log(6.4) / 27);
}

// Where a frequency lies in the picture, from 0 (bottom) to 1. The picture's rows are bands: their centres lie at 1, 2 ...
// of the `numBands + 2` points at equal distances in mel from 0 to `maxHz`.
export function melPlace(hz, maxHz, numBands) {
  return ((mel(hz) / mel(maxHz)) * (numBands + 1) - 0.5) / numBands;
}

export function drawTimes(axis, duration) {
  const room = Math.max(1, Math.floor(axis.clientWidth / TIME_LABEL_PX));
  const step = TIME_STEPS_S.find((candidate) => duration / candidate <= room) || Math.ceil(duration / room / 7200) * 7200;
  const ticks = [];
  for (let count = 0; count * step <= duration + 1e-6; count++) {
    const at = count * step;
    const tick = document.createElement("span");
    tick.textContent = duration >= 60 ? clock(at) : `${step < 1 ? at.toFixed(1) : at} s`;
    tick.style.left = `${(at / duration) * 100}%`;
    // The outermost labels stay inside.
    if (count === 0) tick.className = "first";
    else if (at / duration > 1 - 20 / Math.max(40, axis.clientWidth)) tick.className = "last";
    ticks.push(tick);
  }
  axis.replaceChildren(...ticks);
}

export function drawHz(axis, maxHz, numBands = null) {
  const step = HZ_STEPS.find((candidate) => maxHz / candidate <= NUM_HZ) || maxHz / NUM_HZ;
  const linear = Array.from({ length: Math.floor(maxHz / step) + 1 }, (_, count) => count * step);
  const marks = numBands ? MEL_HZ.filter((hz) => hz <= maxHz) : linear;
  axis.replaceChildren(...marks.map((hz) => {
    const tick = document.createElement("span");
    const place = numBands ? Math.min(1, melPlace(hz, maxHz, numBands)) : hz / maxHz;
    tick.textContent = hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`;
    tick.dataset.hz = hz;
    tick.style.bottom = `${place * 100}%`;
    return tick;
  }));
}
