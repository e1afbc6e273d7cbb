"""A plug-in whose author forgot its parameters."""

from engine import Action


class OpenTicket(Action):
    """Open a ticket."""

    async def run(self, params, context):
        """Do nothing."""
