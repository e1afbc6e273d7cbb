"""Stand-ins for LangSmith, Slack and a webhook's receiver, for ``engine demo`` and for tests."""
