"""Actions: the plug-in contract, parameters, discovery, and the meaning of exceptions and HTTP responses.

Imports nothing above the clients. The engine knows no action by name: built-in actions are discovered like plug-ins.
"""
