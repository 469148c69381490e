"""Films in: from bytes to model frames with their times, and the sound among them."""
