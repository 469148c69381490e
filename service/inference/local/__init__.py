"""The local Triton: started from the wheel, supervised, loaded with models, and cleaned up."""
