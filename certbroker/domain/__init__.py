"""Pure values and decisions: no I/O, no clock, no framework. Time always comes in as an argument."""
