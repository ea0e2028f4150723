// Tags as people want them: those first that say most. "Music" is true of nearly every track and tells nothing, so each
// label's score counts only by the weight that the server names for it. The API itself stays descending.

const weights = new Map();

export function useWeights(served) {
  for (const head of served) {
    for (const [label, weight] of Object.entries(head.telling_weights)) weights.set(label, weight);
  }
}

export function mostTelling(tags) {
  const told = (tag) => tag.score * (weights.get(tag.label) ?? 1);
  return [...tags].sort((one, other) => told(other) - told(one));
}
