"""Studies whose figures stand in docs/, and generated pages of docs/."""
