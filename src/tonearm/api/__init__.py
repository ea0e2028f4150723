"""What ``import tonearm`` gives, and what each verb of the command calls; composes the other rooms, prints nothing.

``tagging`` tags a library, ``tagger`` single files; ``library`` is what a destination can be asked and told.
``training`` trains and evaluates, ``planning`` plans, ``pictures`` draws. ``flags`` are the keyword arguments, which
are the command's flags, and the settings made of them and of TOML files; ``progress`` is what a person sees meanwhile.
"""
