"""The report of a test: the field's table, the facts that it depends on, curves and panels."""
