"""Everything that leaves the process: HTTP with its address guard, LangSmith, Slack's settings.

Knows no route and no delivery.
"""
