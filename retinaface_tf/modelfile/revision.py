"""Which generation of exports a cached file belongs to."""

# Changes when the same weights give another file, so that cached ones are made anew.
REVISION = 1
