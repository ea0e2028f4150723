// What a person is told; other codes come with the server's own words. Written by tonearm.web.error_words.
export const WORDS = {
  empty_file: "This file is empty",
  not_audio: "This is not an audio file, or one that cannot be read",
  no_audio: "There is no sound in this file",
  corrupt: "This file is damaged",
  too_short: "This clip is too short to listen to",
  too_long: "This track is too long for this server",
  decode_timeout: "Reading this file took too long",
  decode_crashed: "This file is damaged",
  decode_memory: "This file is too large to read",
  body_timeout: "Sending the file took too long",
  body_too_large: "This file is too large for this server",
};
