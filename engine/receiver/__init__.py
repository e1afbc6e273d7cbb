"""A request → a durable event → the answer 202.

Checks who posts and what, has the store keep the event, and only then accepts it. Knows no rule and no action.
"""
