"""What `detect compare` says, as blocks of cells and in its formats."""
