"""Networks that transformers does not have, in torch from their papers; loaded only when a model of theirs is."""
