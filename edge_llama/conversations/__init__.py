"""Conversations that last: kept in SQLite, turn by turn, found again and gone on with.

    from edge_llama.conversations import ConversationStore, Thread

    with ConversationStore.open() as store:
        thread = Thread(store, model="models/llama.gguf", system="Be brief.")
        thread.ask("Name three moons of Saturn.")   # on the disk before the answer begins
        thread.save("Titan, Rhea")                  # what there is of it, now and then
        thread.finish("Titan, Rhea, Iapetus.")
        for hit in store.search("titan"):
            print(hit.conversation.id, hit.excerpt)

``records`` are the frozen values, ``schema`` the tables, ``database`` the file and its faults,
``index`` the full-text search, ``store`` all conversations, ``thread`` the one that is being held,
and ``export`` writes them as Markdown or JSON.
"""

from .export import to_json, to_markdown
from .records import Conversation, Hit, Status, Turn, make_title
from .store import ConversationStore
from .thread import Thread

__all__ = [
    "Conversation",
    "ConversationStore",
    "Hit",
    "Status",
    "Thread",
    "Turn",
    "make_title",
    "to_json",
    "to_markdown",
]
