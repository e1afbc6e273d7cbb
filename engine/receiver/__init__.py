"""The public listener: a request → a durable event → the response 202.

It authenticates and checks each request, stores the event, and only then accepts it. It knows no rules and no actions.
"""
