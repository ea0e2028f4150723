"""Titles and artists as players show them, whatever they were written in.

ID3v1 and RIFF's INFO do not say how their text is encoded, and of ID3v2 many files say Latin-1 and hold something
else. FFmpeg passes on what it finds; what is no UTF-8 is told here from all fields of a file together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

# FFmpeg's dictionaries as PyAV gives them with this encoding: every byte a character, so that none is lost.
AS_BYTES = "latin-1"
FALLBACK = "cp1252"
# Where two are as probable, the one that comes first.
CODE_PAGES = (
    *("cp1252", "cp1251", "koi8_r", "cp932", "gb18030", "cp949", "big5"),
    *("cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
)
# Of the letters, so many are beyond ASCII in Greek, Cyrillic, Hebrew, Arabic or CJK, and far fewer in Latin scripts.
OTHER_SCRIPT = 0.5
# Below this coherence (charset-normalizer's, of 0 to 1) text in a Latin script is taken for cp1252.
CONFIDENT, TIE = 0.5, 0.05
# What is told of a script takes this many letters; and charset-normalizer wants some hundred bytes.
LEAST_LETTERS, LEAST_BYTES = 5, 300
# A frame of text in an ID3v2 tag, and how it says that its text is encoded; 0 is Latin-1.
_FRAME = re.compile(rb"(?s)T[A-Z0-9]{3}[\0-\x0f].{5}([\0-\3])|T[A-Z0-9]{2}\0.{2}([\0-\3])")
# Of cp1252; as bytes, since nothing else is known of them.
SIGNS = "¿¡°¼½¾×÷«»·´®©‘’“”–—…™".encode(FALLBACK).decode(AS_BYTES)
KANA, HALF_WIDTH_KANA = re.compile("[\u3041-\u30fa]"), re.compile("[\uff61-\uff9f]")


def says_latin_1(tag: bytes | memoryview) -> bool:
    """Return whether an ID3v2 tag says of all its text that it is Latin-1, which many say of whatever it is."""
    encoding_bytes = {(match[1] or match[2] or b"\0") for match in _FRAME.finditer(tag)}
    return encoding_bytes == {b"\0"}


def decoded(fields: Mapping[str, str], *, may_be_wrong: bool = False) -> dict[str, str]:
    """Return fields as text, their names in lower case.

    Args:
        fields: names and values as ``AS_BYTES`` gives them.
        may_be_wrong: what is UTF-8 here may come from a tag that said Latin-1; see ``says_latin_1``.
    """
    raw = {name.casefold(): value.encode(AS_BYTES, errors="replace") for name, value in fields.items()}
    texts: dict[str, str] = {}
    for name, value in raw.items():
        try:
            texts[name] = value.decode("utf-8")
        except UnicodeDecodeError:
            continue
    undecoded = [value for name, value in raw.items() if name not in texts]
    # Said to be Latin-1, and hardly a letter of it is ASCII: the bytes are those of another script.
    wrong = {name: text.encode(AS_BYTES) for name, text in texts.items() if not text.isascii() and max(text) <= "\xff"}
    is_other = may_be_wrong and _is_other_script(wrong.values())
    if is_other:
        undecoded += wrong.values()
    if not undecoded:
        return texts
    encoding = _encoding(undecoded)
    undecided = [*(set(raw) - set(texts)), *(wrong if is_other else ())]
    for name in undecided:
        texts[name] = wrong.get(name, raw[name]).decode(encoding, errors="replace")
    return {name: texts[name] for name in raw}


def _encoding(values: Sequence[bytes]) -> str:
    """Return what the text of all fields is most probably encoded in."""
    from charset_normalizer import from_bytes  # a tenth of a second, and most files need none of it

    text = b"\n".join(values)
    enough = (text + b"\n") * (1 + LEAST_BYTES // (len(text) + 1))
    matches = list(from_bytes(enough, cp_isolation=list(CODE_PAGES), threshold=0.4))
    if not matches:
        return FALLBACK
    likely = [
        match for match in matches if match.chaos == matches[0].chaos and match.coherence > matches[0].coherence - TIE
    ]
    best = min(likely, key=lambda match: CODE_PAGES.index(match.encoding))
    if _is_other_script(values):
        return _east_asian(best.encoding, text)
    # Where cp1252 would say the same, it is among those that the text could be from.
    is_sure = best.coherence >= CONFIDENT and FALLBACK not in best.could_be_from_charset
    return best.encoding if is_sure else FALLBACK


def _east_asian(encoding: str, text: bytes) -> str:
    """Return cp932 or cp949 where the other was found: each decodes much of what is written in the other.

    Korean text is of the syllables that EUC-KR has, and Japanese of full-width kana.
    """
    if encoding == "cp949" and not _decodes(text, "euc_kr") and KANA.search(text.decode("cp932", "replace")):
        return "cp932"
    japanese = text.decode("cp932", "replace")
    if encoding == "cp932" and _decodes(text, "euc_kr") and len(HALF_WIDTH_KANA.findall(japanese)) > len(japanese) // 4:
        return "cp949"
    return encoding


def _decodes(text: bytes, encoding: str) -> bool:
    try:
        text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_other_script(values: Iterable[bytes]) -> bool:
    """Return whether more is beyond ASCII than in a Latin script; a word counts once, common signs not at all."""
    text = "".join(dict.fromkeys(word for value in values for word in value.decode(AS_BYTES).split()))
    beyond = sum(sign >= "\x80" and sign not in SIGNS for sign in text)
    letters = beyond + sum(sign < "\x80" and sign.isalpha() for sign in text)
    return beyond >= LEAST_LETTERS and beyond >= OTHER_SCRIPT * letters
