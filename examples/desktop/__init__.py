"""The parts of ``desktop_chat.py``."""
