"""From an ``initial`` model and a ``recipe`` to a ``result``: the ``loop`` of epochs, each of ``step``s."""
