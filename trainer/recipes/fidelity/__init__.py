"""The best picture that 200 numbers can carry: a memory of a film and a refinement network."""
