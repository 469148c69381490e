"""Films out: from pictures and sound to fragmented MP4."""
