"""How good the lists are, measured beside what a user could run instead, on several data sets."""
