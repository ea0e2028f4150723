"""Rows to other programs: ``export`` chooses by the output's name, one module a format; ``output`` writes files."""
