"""Everything behind the report page: reading runs, statistics, figures, the page itself.

Nothing here imports JAX or runs an agent: it works from the files that runs leave behind.
"""
