"""The live view of a terminal: one look at the trail, how it is drawn, and the screen."""
