"""Files of every kind, damaged at random: each is accepted or answered with an error that names it."""
