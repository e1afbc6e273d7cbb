"""The command ``engine``: one file a command."""
