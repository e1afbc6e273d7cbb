"""What an action is: its contract, its parameters, how it is found, what its exceptions and HTTP answers mean.

Imports nothing above the clients. The engine knows no action by name: built-in ones are found like plug-ins.
"""
