"""Define the subcommands of ``fadiag``, one per module."""
