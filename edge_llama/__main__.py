"""``python -m edge_llama``."""

from .cli import main

main()
