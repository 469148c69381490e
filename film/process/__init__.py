"""Films and pictures in processes of their own: what starts, confines and talks to them."""
