"""Every code of a failed track or request, and what each place says of it: server, report and page.

The page has its words from ``web/page/error_words.js``, which ``python -m tonearm.web.error_words`` writes.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class ErrorCode:
    """What is said of one code.

    Attributes:
        status: of HTTP, that a server answers.
        hint: what who asks the server can do; None for what only its operator can mend.
        happened, advice: what the report says of tracks that failed so, and what it advises; None for what no run has.
        page: what the page tells a person; None where the server's own words do.
    """

    status: int
    hint: str | None = None
    happened: str | None = None
    advice: str | None = None
    page: str | None = None


TRACK: dict[str, ErrorCode] = {
    "not_found": ErrorCode(
        status=404,
        happened="The object was listed, but was gone when it was read.",
        advice="Nothing, if it was deleted on purpose; otherwise restore it and run again.",
    ),
    "access_denied": ErrorCode(
        status=403,
        happened="The store refused to give the bytes to these credentials.",
        advice=(
            "Allow the credentials to read these objects, then run `tonearm tag --retry-errors` with the same sources."
        ),
    ),
    "fetch_failed": ErrorCode(
        status=502,
        happened="The store kept failing through all retries.",
        advice="Run `tonearm tag --retry-errors` when the store is well; raise fetch.num_attempts if it happens often.",
    ),
    "fetch_timeout": ErrorCode(
        status=504,
        happened="Reading the object took longer than fetch.timeout_s.",
        advice="Run `tonearm tag --retry-errors` from nearer to the store or with a higher fetch.timeout_s.",
    ),
    "too_large": ErrorCode(
        status=413,
        happened="The object has more bytes than fetch.max_bytes.",
        advice="Raise fetch.max_bytes if such files belong here.",
    ),
    "changed": ErrorCode(
        status=409,
        happened="The object changed between listing and reading.",
        advice="Run again: it is listed as the new version that it is.",
    ),
    "empty_file": ErrorCode(
        status=422,
        hint="send the whole file",
        happened="The file has no bytes.",
        advice="Copy it again from where it came from, or delete it.",
        page="This file is empty",
    ),
    "not_audio": ErrorCode(
        status=415,
        hint="send a file that FFmpeg reads: mp3, flac, wav, ogg, opus, m4a and many more",
        happened="No container or codec that FFmpeg knows, whatever the extension says.",
        advice="Look at the file: it may be a text, a picture or a broken download.",
        page="This is not an audio file, or one that cannot be read",
    ),
    "no_audio": ErrorCode(
        status=415,
        hint="send a file with an audio stream",
        happened="A media file without a stream of audio.",
        advice="Nothing: there is nothing to hear in it.",
        page="There is no sound in this file",
    ),
    "corrupt": ErrorCode(
        status=422,
        hint="export the file again; this one is damaged",
        happened="It has a stream of audio, from which not one sample could be decoded.",
        advice="Copy or encode the file again; ffmpeg -v error -i FILE -f null - says where it breaks.",
        page="This file is damaged",
    ),
    "too_short": ErrorCode(
        status=422,
        hint="send a longer clip",
        happened="It decodes, but to less than one frame of the model.",
        advice="Nothing: it is too short to have a genre.",
        page="This clip is too short to listen to",
    ),
    "too_long": ErrorCode(
        status=413,
        hint="cut the file, or have the operator raise serve.max_duration_s",
        happened="The track is longer than a server takes.",
        advice="Raise serve.max_duration_s.",
        page="This track is too long for this server",
    ),
    "decode_timeout": ErrorCode(
        status=408,
        hint="send a shorter file, or have the operator raise decode.timeout_s",
        happened="Decoding took longer than decode.timeout_s and was ended.",
        advice="Raise decode.timeout_s if the file is sound and merely long.",
        page="Reading this file took too long",
    ),
    "decode_crashed": ErrorCode(
        status=422,
        hint="export the file again; the decoder of its format dies of this one",
        happened="The native decoder crashed; its process was replaced and the other tracks went on.",
        advice="Encode the file again; keep a copy, since such files are worth reporting to the decoder's authors.",
        page="This file is damaged",
    ),
    "decode_memory": ErrorCode(
        status=413,
        hint="send a shorter file, or have the operator raise decode.max_memory_bytes",
        happened="Decoding asked for more memory than decode.max_memory_bytes and was ended.",
        advice="Raise decode.max_memory_bytes if the file is sound and the machine has the memory.",
        page="This file is too large to read",
    ),
    "score_failed": ErrorCode(
        status=500,
        happened="The model could not score the track's windows.",
        advice="See the message; run `tonearm tag --retry-errors`, with precision fp32 if it speaks of numbers.",
    ),
}

# A server's own answers; those of TRACK are answered too.
REQUEST: dict[str, ErrorCode] = {
    "malformed": ErrorCode(
        status=400,
        hint="see /docs for what this route takes",
    ),
    "bad_base64": ErrorCode(
        status=400,
        hint="encode the file's bytes as base64 in `inputs`; a path or a URL is never read",
    ),
    "unauthorized": ErrorCode(
        status=401,
        hint="send `Authorization: Bearer KEY`; the operator makes keys with `tonearm serve --new-key`",
    ),
    "foreign_origin": ErrorCode(
        status=403,
        hint=(
            "open the server's own page, or have the operator allow it with `tonearm serve --allow-origin`, "
            "or make API keys"
        ),
    ),
    "uri_not_allowed": ErrorCode(
        status=403,
        hint="upload the file, or have the operator allow the prefix with `tonearm serve --allow-uri`",
    ),
    "no_route": ErrorCode(
        status=404,
        hint="see /docs for the routes there are",
    ),
    "unknown_model": ErrorCode(
        status=404,
        hint="see /v1/models for the models there are",
    ),
    "no_method": ErrorCode(
        status=405,
        hint="see /docs for the methods of this route",
    ),
    "body_timeout": ErrorCode(
        status=408,
        hint="send the body without a pause, or a smaller file",
        page="Sending the file took too long",
    ),
    "body_too_large": ErrorCode(
        status=413,
        hint="send a smaller file, or one of a lossy format",
        page="This file is too large for this server",
    ),
    "not_audio_type": ErrorCode(
        status=415,
        hint="send the file's bytes as the body, with an audio type or none, or in a form's file field",
    ),
    "unknown_coding": ErrorCode(
        status=415,
        hint="send the body in a coding that Accept-Encoding names, or as it is",
    ),
    "head_too_large": ErrorCode(
        status=431,
        hint="send fewer and shorter header lines",
    ),
    "head_timeout": ErrorCode(
        status=408,
        hint="send the whole head of a request at once",
    ),
    "rate_limited": ErrorCode(
        status=429,
        hint="wait as long as Retry-After says",
    ),
    "busy": ErrorCode(
        status=503,
        hint="wait as long as Retry-After says, then send the same request again",
    ),
    "unavailable": ErrorCode(
        status=503,
        hint="wait as long as Retry-After says, then send the same request again",
    ),
    "stopping": ErrorCode(
        status=503,
        hint="the server is being stopped; send the request to another or wait for its return",
    ),
}
