"""The verbs as they are typed, by the headings of ``tonearm --help``: names, arguments, options.

Each hands on what was given to the module of ``tonearm.cli`` that prints, which is loaded only then.
"""
