"""The instruments of the synthesized library: each a function from pitch and length to mono float32 at ``RATE``."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

RATE = 44100
Wave = NDArray[np.float32]


def hertz(midi: float) -> float:
    """Return the frequency of a MIDI note number."""
    return float(440.0 * 2 ** ((midi - 69) / 12))


def _time(length_s: float) -> NDArray[np.float64]:
    return np.arange(max(1, int(length_s * RATE))) / RATE


def _fade(wave: NDArray[np.floating], attack_s: float, release_s: float) -> Wave:
    # A note that begins or ends at once clicks.
    envelope = np.ones(len(wave))
    attack, release = min(len(wave), int(attack_s * RATE)), min(len(wave), int(release_s * RATE))
    if attack:
        envelope[:attack] *= np.linspace(0, 1, attack)
    if release:
        envelope[-release:] *= np.linspace(1, 0, release)
    return (wave * envelope).astype(np.float32)


def _saw(phase: NDArray[np.float64], frequency: float, brightness_hz: float) -> NDArray[np.float64]:
    """Band-limited saw of as many harmonics as lie under ``brightness_hz``, softly rolled off."""
    count = int(np.clip(brightness_hz / frequency, 1, 24))
    number = np.arange(1, count + 1)
    weights = 1 / number * np.exp(-((number * frequency / brightness_hz) ** 2))
    return np.einsum("k,kt->t", weights, np.sin(number[:, None] * phase[None, :]))


def _filtered(noise: NDArray[np.float64], low_hz: float, high_hz: float) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(noise)
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    spectrum *= 1 / (1 + (low_hz / np.maximum(frequency, 1)) ** 4) / (1 + (frequency / high_hz) ** 4)
    return np.fft.irfft(spectrum, len(noise))


# A song plays the same few notes hundreds of times.
@functools.lru_cache(maxsize=4096)
def play(instrument: str, midi: int, length_s: float, variant: int = 0) -> Wave:
    """Return one note; ``variant`` chooses among a few takes that differ as a player's do.

    Args:
        instrument: a name in ``INSTRUMENTS``.
        midi: note number; drums ignore it.
        length_s: seconds, the release included.
    """
    rng = np.random.default_rng([variant, midi, int(length_s * 1000)])
    return INSTRUMENTS[instrument](hertz(midi), length_s, rng)


def kick(_: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(0.35)
    # The pitch falls to 48 Hz within tens of milliseconds: the thump of a bass drum.
    sweep = 48 + 130 * np.exp(-t * (32 + 8 * rng.random()))
    body = np.sin(2 * np.pi * np.cumsum(sweep) / RATE) * np.exp(-t * 9)
    return _fade(np.tanh(2.2 * body) + 0.25 * rng.normal(size=len(t)) * np.exp(-t * 400), 0.0005, 0.05)


def acoustic_kick(_: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(0.28)
    body = np.sin(2 * np.pi * np.cumsum(62 + 60 * np.exp(-t * 60)) / RATE) * np.exp(-t * 16)
    click = _filtered(rng.normal(size=len(t)), 1500, 5000) * np.exp(-t * 160)
    return _fade(body + 0.9 * click, 0.0005, 0.05)


def snare(_: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(0.25)
    noise = _filtered(rng.normal(size=len(t)), 900, 9000) * np.exp(-t * 18)
    tone = np.sin(2 * np.pi * 190 * t) + 0.6 * np.sin(2 * np.pi * 330 * t)
    return _fade(1.3 * noise + 0.5 * tone * np.exp(-t * 28), 0.0005, 0.03)


def clap(_: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(0.22)
    # Three bursts some ten milliseconds apart, as of several hands, and the room after them.
    envelope = sum(np.where(t >= d, np.exp(-(t - d) * 90), 0) for d in (0, 0.011, 0.023)) + 0.6 * np.exp(-t * 22)
    return _fade(_filtered(rng.normal(size=len(t)), 900, 4000) * envelope, 0.0005, 0.03)


def hat(_: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(0.06)
    return _fade(_filtered(rng.normal(size=len(t)), 7000, 16000) * np.exp(-t * 70), 0.0003, 0.01)


def open_hat(_: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(0.28)
    return _fade(_filtered(rng.normal(size=len(t)), 6500, 16000) * np.exp(-t * 12), 0.0005, 0.05)


def ride(_: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(0.9)
    # In no simple ratio to each other, as the partials of a cymbal.
    partials = sum(np.sin(2 * np.pi * f * t + p) for f, p in zip((3160, 4270, 5510, 6890, 8230), range(5), strict=True))
    wash = _filtered(rng.normal(size=len(t)), 5000, 12000)
    return _fade((0.12 * partials + 0.5 * wash) * np.exp(-t * 5), 0.001, 0.1)


def noise_drum(_: float, length_s: float, rng: np.random.Generator) -> Wave:
    # Each value is held for five samples: the coarse noise of a console's sound chip.
    steps = np.repeat(rng.choice([-1.0, 1.0], size=2000), 5)[: int(0.12 * RATE)]
    return _fade(0.7 * steps * np.exp(-np.arange(len(steps)) / RATE * 30), 0.0003, 0.02)


def saw_bass(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    return _fade(_saw(2 * np.pi * frequency * t, frequency, 420 + 200 * rng.random()), 0.004, 0.03)


def reese(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    # Voices detuned against each other; their beating is what the sound is known for.
    voices = sum(_saw(2 * np.pi * frequency * d * t + 2 * rng.random(), frequency, 700) for d in (0.988, 1.0, 1.013))
    return _fade(np.tanh(0.8 * voices), 0.01, 0.05)


def finger_bass(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    number = np.arange(1, 7)[:, None]
    # High partials of a string die away first.
    partials = np.sin(2 * np.pi * number * frequency * t) * np.exp(-t * (1.5 + 1.8 * number)) / number
    return _fade(partials.sum(axis=0), 0.006, 0.05)


def sub_bass(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    return _fade(np.tanh(1.4 * np.sin(2 * np.pi * frequency * t)), 0.01, 0.06)


def pad(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    # Two detuned voices that drift, as those of an analogue synthesizer.
    drift = 1 + 0.002 * np.sin(2 * np.pi * 0.2 * t + 6 * rng.random())
    phase = 2 * np.pi * frequency * np.cumsum(drift) / RATE
    low, high = (_saw(phase * detune + 6 * rng.random(), frequency, 1300) for detune in (0.996, 1.004))
    return _fade(0.5 * (low + high), 0.35 * length_s, 0.35 * length_s)


def bowed(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    out = np.zeros(len(t))
    for _ in range(2):
        # It grows over a third of a second, as players begin it.
        vibrato = 1 + 0.004 * np.clip(t * 3, 0, 1) * np.sin(2 * np.pi * (5 + rng.random()) * t + 6 * rng.random())
        phase = 2 * np.pi * frequency * (1 + 0.002 * rng.normal()) * np.cumsum(vibrato) / RATE
        out += _saw(phase, frequency, 3800)
    bow = _filtered(rng.normal(size=len(t)), 1800, 6000) * 0.03
    return _fade(0.5 * out + bow, min(0.14, length_s / 3), min(0.2, length_s / 3))


def piano(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    number = np.arange(1, 10)[:, None]
    # Strings are stiff: their partials lie above the harmonics, the more the higher.
    stretched = frequency * number * np.sqrt(1 + 0.0004 * number**2)
    decay = np.exp(-t * (1.2 + 0.9 * number) * (frequency / 262) ** 0.4)
    hammer = _filtered(rng.normal(size=len(t)), 800, 3500) * np.exp(-t * 90) * 0.25
    return _fade((np.sin(2 * np.pi * stretched * t) * decay / number**1.1).sum(axis=0) + hammer, 0.002, 0.08)


def electric_piano(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    # Frequency modulation whose depth falls: a bright attack, then a soft tone.
    index = 1.6 * np.exp(-t * 4)
    tine = 0.25 * np.sin(2 * np.pi * 14 * frequency * t) * np.exp(-t * 24)
    tone = np.sin(2 * np.pi * frequency * t + index * np.sin(2 * np.pi * frequency * t)) + tine
    tremolo = 1 + 0.25 * np.sin(2 * np.pi * 4.5 * t)
    return _fade(tone * tremolo * np.exp(-t * 1.6), 0.003, 0.08)


def plucked(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    """Karplus and Strong's string, solved in blocks of one period: each is the last one, smoothed."""
    period = max(2, round(RATE / frequency))
    loop = rng.uniform(-1, 1, period)
    blocks = []
    for _ in range(int(length_s * RATE) // period + 1):
        blocks.append(loop)
        # The mean of neighbours is the loss of the string, which takes the high harmonics first.
        loop = 0.996 * 0.5 * (loop + np.roll(loop, 1))
    return _fade(np.concatenate(blocks)[: max(1, int(length_s * RATE))], 0.001, 0.06)


def power_chord(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    phase = 2 * np.pi * frequency * t
    # Root, fifth and octave, overdriven; then what a guitar cabinet lets through.
    chord = (
        _saw(phase, frequency, 2600)
        + _saw(1.498 * phase + 1, frequency, 2600)
        + 0.7 * _saw(2 * phase + 2, frequency, 2600)
    )
    driven = np.tanh(5 * chord * np.exp(-t * 0.6))
    return _fade(_filtered(driven, 90, 4200), 0.004, 0.05)


def square(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    # The pulse widths that sound chips of game consoles had.
    duty = (0.125, 0.25, 0.5)[int(rng.integers(3))]
    return _fade(np.where((frequency * t) % 1 < duty, 1.0, -1.0) * np.exp(-t * 1.5), 0.001, 0.01)


def triangle(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    # In 16 levels, as the NES played it.
    steps = np.round(15 * np.abs(2 * ((frequency * t) % 1) - 1)) / 7.5 - 1
    return _fade(steps, 0.001, 0.01)


def stab(frequency: float, length_s: float, rng: np.random.Generator) -> Wave:
    t = _time(length_s)
    voices = sum(_saw(2 * np.pi * frequency * d * t, frequency, 3000) for d in (0.995, 1.0, 1.006))
    return _fade(voices * np.exp(-t * 9), 0.002, 0.03)


INSTRUMENTS = {
    function.__name__: function
    for function in (
        kick,
        acoustic_kick,
        snare,
        clap,
        hat,
        open_hat,
        ride,
        noise_drum,
        saw_bass,
        reese,
        finger_bass,
        sub_bass,
        pad,
        bowed,
        piano,
        electric_piano,
        plucked,
        power_chord,
        square,
        triangle,
        stab,
    )
}
DRUMS = frozenset({"kick", "acoustic_kick", "snare", "clap", "hat", "open_hat", "ride", "noise_drum"})
