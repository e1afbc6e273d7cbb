"""``Config`` + registry → an immutable ``Router``, whose ``decide`` is pure.

``compile`` is the one step between what the user wrote and what runs; ``reload`` owns the live router; ``lint`` has the
warnings. Nothing here sends a request or writes to the store.
"""
