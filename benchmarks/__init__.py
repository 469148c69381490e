"""How fast, how large: measured side by side on this machine. See README.md."""
