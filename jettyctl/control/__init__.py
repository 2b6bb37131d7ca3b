"""The client of the control plane: no storage credentials here, only a key, and signed addresses for one part each."""
