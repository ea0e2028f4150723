"""What a run would take, before it runs: tracks, hours, formats, what will not decode, time and money."""
