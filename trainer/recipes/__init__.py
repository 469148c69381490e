"""How models are trained: a module a recipe."""
