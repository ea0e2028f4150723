"""What a run would take, before it runs: tracks, hours, formats, what will not decode, time and money.

``layout`` is how many workers it has, ``preparation`` and ``adoption`` settle its models; ``summary`` is how it ended.
"""
