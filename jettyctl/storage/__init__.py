"""Stores: the code that speaks to a place where objects live. `base` holds the promises, the rest keeps them."""
