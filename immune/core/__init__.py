"""The pure core: what is computed, never what is done. See README.md in this folder."""
