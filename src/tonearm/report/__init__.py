"""``report.html``: ``figures`` gathers, ``pictures`` draws, ``text`` words, and ``page`` fills the template."""
