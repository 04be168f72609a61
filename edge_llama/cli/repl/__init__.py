"""The chat in a terminal.

``loop`` reads lines and hands them on; ``commands`` is the table of slash commands, whose functions
are in ``talking``, ``keeping`` and ``telling``; ``session`` is the conversation without a terminal;
``answering`` runs one answer; ``view`` and ``markdown`` draw it; ``entry``, ``completion`` and
``toolbar`` are the input line.
"""
