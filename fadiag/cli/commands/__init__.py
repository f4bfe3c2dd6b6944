"""The subcommands of ``fadiag``, one module each."""
