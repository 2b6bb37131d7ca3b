"""The client of the control plane: uploads whose storage credentials are elsewhere, clones, and sessions of other machines."""
