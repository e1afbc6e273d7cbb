"""Nouns that every package uses, and tools. Only small files are read here, such as ``.env``.

- events: ``event``, ``document``, ``feedback``, ``vocabulary``, ``payload_schema``
- JSON: ``json_text``, ``shown_values``, ``compression``, ``signatures``
- decisions: ``truth``, ``decisions``, ``schedule``, ``regex``, ``offload``
- configuration text: ``positions``, ``variables``, ``units``, ``times``, ``suggest``, ``env_file``, ``fingerprint``
- errors and what people read: ``errors``, ``error_text``, ``masking``, ``terminal_text``, ``log_context``, ``trace``
- the process: ``serve_settings``, ``process``, ``memory_budget``, ``fair_share``, ``counters``, ``batches``

Imports nothing of the engine, keeps no state but caches, and logs nothing of its own.
"""
