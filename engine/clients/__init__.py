"""All outgoing connections: the HTTP session with its address guard, the LangSmith client, Slack's settings.

It knows no routes and no deliveries.
"""
