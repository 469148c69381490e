"""Reading, spooling and writing video, and the one definition of a model frame."""
