"""Seeded songs in nine styles: tempo, key, progression, sections and a player's inexactness, all from one seed.

The same seed gives the same samples. Every style is a list of layers, and every layer says which tags its sound
deserves (AudioSet's names), so the truth about each moment of a song is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tonearm.demo.instruments import DRUMS, play
from tonearm.demo.instruments import RATE as RATE

# Semitones above the key's root: one chord a bar, four bars round.
MINOR = [[(0, 3, 7), (8, 12, 15), (3, 7, 10), (10, 14, 17)], [(0, 3, 7), (5, 8, 12), (8, 12, 15), (7, 10, 14)]]
MAJOR = [[(0, 4, 7), (5, 9, 12), (7, 11, 14), (5, 9, 12)], [(0, 4, 7), (7, 11, 14), (9, 12, 16), (5, 9, 12)]]
SEVENTHS = [
    [(2, 5, 9, 12), (7, 11, 14, 17), (0, 4, 7, 11), (9, 12, 16, 19)],
    [(0, 4, 7, 11), (9, 12, 16, 19), (2, 5, 9, 12), (7, 11, 14, 17)],
]

# One event: beat within the bar, instrument, semitones above the root (or of chord tone), length in beats, loudness.
Event = tuple[float, str, int, float, float]
Pattern = Callable[[tuple[int, ...], int, np.random.Generator], list[Event]]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One part of a song: what it plays in a bar, how loud, where between left and right, which tags it earns."""

    pattern: Pattern
    tags: tuple[str, ...]
    gain: float = 0.5
    pan: float = 0.0


@dataclasses.dataclass(frozen=True)
class Style:
    """A genre: tempo range, chords, layers, and how wet and how swung it is."""

    name: str
    tempo: tuple[int, int]
    chords: Sequence[Sequence[tuple[int, ...]]]
    layers: tuple[Layer, ...]
    root: int = 45
    swing: float = 0.0
    reverb_s: float = 0.6
    wet: float = 0.15
    hiss: float = 0.0


@dataclasses.dataclass(frozen=True)
class Song:
    """A rendered song: stereo float32 [2, samples] at ``RATE``, and for each tag the seconds in which it sounds."""

    genre: str
    samples: NDArray[np.float32]
    spans: dict[str, list[tuple[float, float]]]

    def tags_between(self, start_s: float, end_s: float, *, least_s: float = 1.0) -> set[str]:
        """Return the tags that sound for ``least_s`` or more within the stretch."""
        tags = set()
        for tag, spans in self.spans.items():
            heard = sum(max(0.0, min(end, end_s) - max(start, start_s)) for start, end in spans)
            if heard >= min(least_s, 0.5 * (end_s - start_s)):
                tags.add(tag)
        return tags


def _hits(instrument: str, beats: list[float], loudness: float = 1.0, chance: float = 1.0) -> Pattern:
    def pattern(chord: tuple[int, ...], bar: int, rng: np.random.Generator) -> list[Event]:
        return [
            (beat, instrument, 0, 0.5, loudness * (0.8 + 0.2 * rng.random())) for beat in beats if rng.random() < chance
        ]

    return pattern


def _bass(instrument: str, beats: list[float], length: float, octave: int = -12) -> Pattern:
    def pattern(chord: tuple[int, ...], bar: int, rng: np.random.Generator) -> list[Event]:
        return [(beat, instrument, chord[0] % 12 + octave, length, 0.9) for beat in beats]

    return pattern


def _walk(instrument: str) -> Pattern:
    def pattern(chord: tuple[int, ...], bar: int, rng: np.random.Generator) -> list[Event]:
        steps = [chord[0], chord[1], chord[2], chord[0] + int(rng.choice([-1, 1, 2, 11]))]
        return [(float(beat), instrument, step % 12 - 12, 0.95, 0.9) for beat, step in enumerate(steps)]

    return pattern


def _chords(instrument: str, beats: list[float], length: float, lift: int = 12) -> Pattern:
    def pattern(chord: tuple[int, ...], bar: int, rng: np.random.Generator) -> list[Event]:
        return [(beat, instrument, tone % 12 + lift, length, 0.6) for beat in beats for tone in chord]

    return pattern


def _arpeggio(instrument: str, step: float, lift: int, span: int = 2) -> Pattern:
    def pattern(chord: tuple[int, ...], bar: int, rng: np.random.Generator) -> list[Event]:
        tones = [tone + 12 * octave for octave in range(span) for tone in chord]
        order = [tones[index % len(tones)] for index in range(int(4 / step))]
        if bar % 2:
            order.reverse()
        return [
            (index * step, instrument, tone % 24 + lift, step * 1.6, 0.7 + 0.3 * rng.random())
            for index, tone in enumerate(order)
        ]

    return pattern


def _melody(instrument: str, lift: int, density: float = 0.6, length: float = 0.9) -> Pattern:
    def pattern(chord: tuple[int, ...], bar: int, rng: np.random.Generator) -> list[Event]:
        beats = [beat for beat in np.arange(0, 4, 0.5) if rng.random() < density]
        return [(float(beat), instrument, int(rng.choice(chord)) % 12 + lift, length, 0.8) for beat in beats]

    return pattern


def _root_chugs(instrument: str) -> Pattern:
    def pattern(chord: tuple[int, ...], bar: int, rng: np.random.Generator) -> list[Event]:
        return [(beat, instrument, chord[0] % 12 - 5, 0.5, 0.8) for beat in np.arange(0, 4, 0.5)]

    return pattern


KIT = ("Drum kit", "Drum")
MACHINE = ("Drum machine", "Drum")
SYNTH = ("Synthesizer",)
FOUR, OFF, EIGHTHS = [0.0, 1.0, 2.0, 3.0], [0.5, 1.5, 2.5, 3.5], [0.5 * index for index in range(8)]
SIXTEENTHS = [0.25 * index for index in range(16)]

STYLES: tuple[Style, ...] = (
    Style(
        "techno",
        (124, 140),
        MINOR,
        (
            Layer(_hits("kick", FOUR), (*MACHINE, "Bass drum"), 0.9),
            Layer(_hits("open_hat", OFF), ("Hi-hat",), 0.3, 0.2),
            Layer(_hits("clap", [1.0, 3.0]), MACHINE, 0.35),
            Layer(
                _bass("saw_bass", [0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.25, 2.5, 2.75, 3.25, 3.5, 3.75], 0.22),
                SYNTH,
                0.4,
            ),
            Layer(_chords("stab", [0.75, 2.25], 0.4), SYNTH, 0.16, -0.3),
        ),
        reverb_s=0.9,
    ),
    Style(
        "drum and bass",
        (168, 178),
        MINOR,
        (
            Layer(_hits("acoustic_kick", [0.0, 2.5]), (*KIT, "Bass drum"), 0.9),
            Layer(_hits("snare", [1.0, 3.0]), (*KIT, "Snare drum"), 0.65),
            Layer(_hits("snare", [1.75, 2.25, 3.75], 0.35, 0.5), ("Snare drum",), 0.5),
            Layer(_hits("hat", EIGHTHS), ("Hi-hat",), 0.35, 0.2),
            Layer(_bass("reese", [0.0, 2.0], 1.9, -17), SYNTH, 0.45),
            Layer(_chords("pad", [0.0], 4.0), SYNTH, 0.1),
        ),
        root=41,
    ),
    Style(
        "hip hop",
        (84, 96),
        SEVENTHS,
        (
            Layer(_hits("acoustic_kick", [0.0, 1.75, 2.5]), (*KIT, "Bass drum"), 0.95),
            Layer(_hits("snare", [1.0, 3.0]), (*KIT, "Snare drum"), 0.55),
            Layer(_hits("hat", EIGHTHS), ("Hi-hat",), 0.25, 0.25),
            Layer(_chords("electric_piano", [0.0, 2.5], 1.6), ("Electric piano",), 0.2, -0.2),
            Layer(_bass("sub_bass", [0.0, 2.5], 1.2), ("Bass guitar",), 0.5),
        ),
        swing=0.14,
        hiss=0.012,
    ),
    Style(
        "rock",
        (112, 138),
        MAJOR,
        (
            Layer(_hits("acoustic_kick", [0.0, 2.0, 2.5]), (*KIT, "Bass drum"), 0.8),
            Layer(_hits("snare", [1.0, 3.0]), (*KIT, "Snare drum"), 0.7),
            Layer(_hits("open_hat", EIGHTHS), ("Hi-hat", "Cymbal"), 0.2, 0.3),
            Layer(_root_chugs("power_chord"), ("Electric guitar", "Guitar"), 0.34, -0.35),
            Layer(_bass("finger_bass", EIGHTHS, 0.5), ("Bass guitar",), 0.5),
        ),
        root=45,
        reverb_s=0.5,
    ),
    Style(
        "ambient",
        (60, 76),
        MAJOR,
        (
            Layer(_chords("pad", [0.0], 5.5, 12), SYNTH, 0.22, -0.3),
            Layer(_chords("pad", [0.0], 5.5, 24), SYNTH, 0.12, 0.3),
            Layer(_bass("sub_bass", [0.0], 4.0), SYNTH, 0.25),
            Layer(_melody("electric_piano", 24, 0.15, 3.0), ("Electric piano",), 0.12, 0.2),
        ),
        reverb_s=3.2,
        wet=0.55,
        hiss=0.004,
    ),
    Style(
        "classical",
        (66, 96),
        MAJOR,
        (
            Layer(_chords("bowed", [0.0, 2.0], 2.0, 12), ("Bowed string instrument", "String section"), 0.2, -0.3),
            Layer(_melody("bowed", 24, 0.4, 1.4), ("Bowed string instrument", "Violin, fiddle"), 0.24, 0.3),
            Layer(_bass("bowed", [0.0, 2.0], 2.0, -5), ("Bowed string instrument", "String section"), 0.28),
        ),
        reverb_s=2.0,
        wet=0.35,
    ),
    Style(
        "jazz",
        (120, 168),
        SEVENTHS,
        (
            Layer(_hits("ride", [0.0, 1.0, 1.66, 2.0, 3.0, 3.66]), (*KIT, "Cymbal"), 0.3, 0.3),
            Layer(_hits("hat", [1.0, 3.0]), ("Hi-hat",), 0.25, 0.3),
            Layer(_walk("finger_bass"), ("Double bass",), 0.6),
            Layer(_chords("piano", [0.66, 2.5], 0.7), ("Piano",), 0.2, -0.3),
            Layer(_melody("piano", 24, 0.5, 0.6), ("Piano",), 0.25, -0.2),
        ),
        root=43,
        swing=0.16,
        reverb_s=0.8,
    ),
    Style(
        "chiptune",
        (130, 165),
        MAJOR,
        (
            Layer(_arpeggio("square", 0.25, 24), (*SYNTH, "Video game music"), 0.18, -0.2),
            Layer(_melody("square", 31, 0.7, 0.45), (*SYNTH, "Video game music"), 0.18, 0.2),
            Layer(_bass("triangle", EIGHTHS, 0.45), SYNTH, 0.32),
            Layer(_hits("noise_drum", [1.0, 3.0, 3.5]), MACHINE, 0.25),
        ),
        reverb_s=0.2,
        wet=0.02,
    ),
    Style(
        "folk",
        (92, 124),
        MAJOR,
        (
            Layer(_arpeggio("plucked", 0.5, 12), ("Acoustic guitar", "Guitar", "Plucked string instrument"), 0.4, -0.2),
            Layer(
                _bass("plucked", [0.0, 2.0], 1.8, 0), ("Acoustic guitar", "Guitar", "Plucked string instrument"), 0.45
            ),
            Layer(_melody("plucked", 24, 0.3, 1.2), ("Plucked string instrument",), 0.3, 0.3),
        ),
        reverb_s=0.7,
        wet=0.12,
    ),
)
GENRES = tuple(style.name for style in STYLES)
TAGS = tuple(sorted({"Music", *(tag for style in STYLES for layer in style.layers for tag in layer.tags)}))


def compose(genre: str, seed: int, duration_s: float) -> Song:
    """Return a song of ``duration_s`` seconds.

    Raises:
        ValueError: a genre that is not among ``GENRES``.
    """
    style = next((style for style in STYLES if style.name == genre), None)
    if style is None:
        raise ValueError(f"got the genre {genre!r}, expected one of {', '.join(GENRES)}")
    # With the seed alone, the songs of one number would have the same draws in every genre.
    rng = np.random.default_rng([seed, GENRES.index(genre)])
    tempo = rng.uniform(*style.tempo)
    root = style.root + int(rng.integers(-4, 6))
    progression = style.chords[int(rng.integers(len(style.chords)))]
    bar_s = 4 * 60 / tempo
    num_bars = max(1, int(np.ceil(duration_s / bar_s)))
    # Room for what rings beyond the last bar; it is cut off at the end.
    mix = np.zeros((2, int((num_bars + 2) * bar_s * RATE) + 4 * RATE), np.float32)
    spans: dict[str, list[tuple[float, float]]] = {"Music": [(0.0, duration_s)]}
    for layer, sounding in zip(style.layers, _arrangement(len(style.layers), num_bars, rng), strict=True):
        gain = layer.gain * rng.uniform(0.75, 1.2)
        # Equal power: a part is as loud at the side as in the middle.
        left, right = gain * np.sqrt((1 - layer.pan) / 2), gain * np.sqrt((1 + layer.pan) / 2)
        for bar in np.flatnonzero(sounding):
            events = layer.pattern(progression[int(bar) % 4], int(bar), rng)
            _render(mix, events, bar * bar_s, bar_s / 4, root, style.swing, (left, right), rng)
            for tag in layer.tags:
                spans.setdefault(tag, []).append((bar * bar_s, (bar + 1) * bar_s))
    mix = _master(mix[:, : int(duration_s * RATE)], style, rng)
    return Song(genre, mix, {tag: _merged(parts) for tag, parts in spans.items()})


def _arrangement(num_layers: int, num_bars: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which layer sounds in which bar: parts enter one by one, and some leave for a break in the middle."""
    sounding = np.ones((num_layers, num_bars), bool)
    if num_bars >= 8:
        order = rng.permutation(num_layers)
        for place, layer in enumerate(order[: num_layers - 2]):
            sounding[layer, : int(rng.integers(0, 2 + place))] = False
        middle = num_bars // 2
        for layer in rng.permutation(num_layers)[: num_layers // 2]:
            sounding[layer, middle : middle + 2] = False
    return sounding


def _render(
    mix: NDArray[np.float32],
    events: list[Event],
    start_s: float,
    beat_s: float,
    root: int,
    swing: float,
    gains: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    for beat, instrument, tone, length, loudness in events:
        # Swing delays what is between the beats.
        late = swing if (beat * 2) % 2 == 1 else 0.0
        at_s = start_s + (beat + late) * beat_s + max(0.0, rng.normal(0, 0.004))
        midi = 0 if instrument in DRUMS else root + 12 + tone
        # To a tenth of a second, so that ``play`` has most notes in its cache.
        note = play(instrument, midi, round(length * beat_s, 1) + 0.1, int(rng.integers(3)))
        first = int(at_s * RATE)
        note = note[: mix.shape[1] - first] * np.float32(loudness * rng.uniform(0.85, 1.0))
        mix[0, first : first + len(note)] += gains[0] * note
        mix[1, first : first + len(note)] += gains[1] * note


def _master(mix: NDArray[np.floating], style: Style, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the mix with reverberation, hiss, gentle compression and a peak of 0.9."""
    length = int(style.reverb_s * RATE)
    # 6.9 is ln 1000: the tail is 60 dB down after ``reverb_s``, as reverberation times are given.
    decay = np.exp(-np.arange(length) / RATE * 6.9 / style.reverb_s)
    impulse = rng.normal(size=(2, length)) * decay / np.sqrt(length / 8)
    size = 1 << int(mix.shape[1] + length - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(mix, size) * np.fft.rfft(impulse, size), size)[:, : mix.shape[1]]
    mix = mix + style.wet * wet
    if style.hiss:
        mix = mix + style.hiss * rng.normal(size=mix.shape)
    # A sixteenth of the samples tells the level as well, and is sorted much sooner.
    mix = np.tanh(1.2 * mix / max(1e-6, float(np.quantile(np.abs(mix[:, ::16]), 0.995))))
    return (0.9 * mix / max(1e-6, float(np.abs(mix).max()))).astype(np.float32)


def _merged(parts: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted(parts):
        if merged and start <= merged[-1][1] + 0.25:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
