"""A plug-in whose hook fails."""

from engine import Action


class Clumsy(Action):
    """Fail at load."""

    def requires(self, params):
        """Look for what is not there."""
        return {params["nothing"]}

    async def run(self, params, context):
        """Do nothing."""
